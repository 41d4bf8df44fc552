"""What the documents say is what the code has."""

import re

from sctseg7t.cli import batch, compare, deepseg, download, prepare, qc, simulate, train

from sctseg7t import __version__


def test_ci_runs_the_readme_command(root):
    readme = (root / "README.md").read_text()
    command = re.search(r"```bash\n(python3 -m venv .*pytest)\n```", readme).group(1)
    assert command in (root / ".ci/run").read_text()


def test_every_option_of_the_readme_exists(root):
    known = set()
    for parser in (c.parser() for c in (batch, compare, deepseg, prepare, qc, simulate, train)):
        known |= {name for action in parser._actions for name in action.option_strings}
    known |= {name for action in download._parser()._actions for name in action.option_strings}
    verbs = next(a for a in download._parser()._actions if a.dest == "verb").choices
    known |= {name for verb in verbs.values() for action in verb._actions for name in action.option_strings}
    readme = (root / "README.md").read_text()
    used = set(re.findall(r"(?<![\w*-])(-[a-z][a-z-]+)", re.sub(r"```bash\npython3.*?```", "", readme, flags=re.S)))
    assert used - known == set()


def test_every_flag_is_explained(root):
    readme = (root / "README.md").read_text()
    sources = "".join((root / "sctseg7t" / name).read_text() for name in ("flags.py", "measure/checks.py"))
    names = (
        "locator_unsure touches_window_edge touches_image_edge sc_area_jump sc_area_implausible gm_sc_ratio_implausible"
    )
    for flag in names.split():
        assert f'"{flag}"' in sources and f"`{flag}`" in readme


def test_version_is_in_changelog_and_citation(root):
    assert f"## {__version__}" in (root / "CHANGELOG.md").read_text()
    assert f"version: {__version__}" in (root / "CITATION.cff").read_text()


def test_architecture_stays_under_two_pages(root):
    assert len((root / "ARCHITECTURE.md").read_text().split()) <= 1000

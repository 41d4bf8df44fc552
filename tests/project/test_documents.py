"""What the documents say is what the code has."""

import contextlib
import re
import shlex
from importlib import import_module
from importlib.util import find_spec

from sctseg7t.cli import COMMANDS

from sctseg7t import __version__


def test_ci_runs_the_readme_command(root):
    readme = (root / "README.md").read_text()
    command = re.search(r"```bash\n(python3 -m venv .*pytest)\n```", readme).group(1)
    assert command in (root / ".ci/run").read_text()


def options_of(parser):
    """Every word that the options of a command, and of its verbs, are known by."""
    verbs = parser.verbs.values()
    return {name for each in (parser, *verbs) for name in each.words}


def test_every_option_in_the_documents_exists(root):
    known = set().union(*(options_of(import_module(f"sctseg7t.cli.{name}").parser()) for name in COMMANDS))
    for path in (root / "README.md", *(root / "docs").rglob("*.md")):
        text = re.sub(r"```bash\npython3.*?```", "", path.read_text(), flags=re.S)
        used = set(re.findall(r"(?<![\w*-])(-[a-z][a-z-]+)", text))
        assert used - known == set(), path


def test_every_command_line_in_the_documents_is_understood(root):
    """Lines of a command in code blocks are read by the command's own parser."""
    seen = set()
    for path in (root / "README.md", *(root / "docs").rglob("*.md")):
        for block in re.findall(r"```bash\n(.*?)```", path.read_text(), flags=re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0].startswith("sct7t_"):
                    name = words[0].removeprefix("sct7t_")
                    # An option such as -effects answers, and ends with 0; this one needs the libraries of training.
                    answers = (SystemExit,) if find_spec("torch") else (SystemExit, ImportError)
                    with contextlib.suppress(*answers) if "-effects" in words else contextlib.nullcontext():
                        import_module(f"sctseg7t.cli.{name}").parser().parse_args(words[1:])
                    seen.add(name)
    assert len(seen) >= 4


def test_every_flag_is_explained(root):
    readme = (root / "README.md").read_text()
    sources = "".join(path.read_text() for path in (root / "sctseg7t").rglob("*.py"))
    names = (
        "locator_unsure touches_window_edge touches_image_edge sc_area_jump sc_area_implausible gm_sc_ratio_implausible"
        " gm_contrast_low past_cord_end contrast_unusual"
    )
    for flag in names.split():
        assert f'"{flag}"' in sources and f"`{flag}`" in readme


def test_version_is_in_changelog_and_citation(root):
    assert f"## {__version__}" in (root / "CHANGELOG.md").read_text()
    assert f"version: {__version__}" in (root / "CITATION.cff").read_text()

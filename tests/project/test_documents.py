"""What the documents say is what the code has."""

import contextlib
import re
import shlex
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest
from sctseg7t.cli import COMMANDS

from sctseg7t import __version__
from sctseg7t.measure.flags import FLAGS, NOT_AVERAGED

LONGEST_README = 150


@pytest.fixture(scope="module")
def pages(root):
    """Texts of the documents that people write, by path; those that the site's builder makes are left out."""
    found = [root / "README.md", root / "CONTRIBUTING.md", root / "ARCHITECTURE.md", *(root / "docs").rglob("*.md")]
    return {path: path.read_text() for path in found if path.parent.name != "cards"}


def options_of(parser):
    """Every word that the options of a command, and of its verbs, are known by."""
    verbs = parser.verbs.values()
    return {name for each in (parser, *verbs) for name in each.words}


def test_ci_runs_the_readme_command(root):
    readme = (root / "README.md").read_text()
    command = re.search(r"```bash\n(python3 -m venv .*pytest)\n```", readme).group(1)
    assert command in (root / ".ci/run").read_text()


def test_readme_is_short(root):
    assert len((root / "README.md").read_text().splitlines()) <= LONGEST_README


def test_links_and_pictures_are_there(pages):
    """Links between pages are also checked when the site is built; these are also those of the README."""
    for path, text in pages.items():
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in link:
                assert (path.parent / link).exists(), f"{path}: {link}"


def test_every_option_in_the_documents_exists(pages):
    known = set().union(*(options_of(import_module(f"sctseg7t.cli.{name}").parser()) for name in COMMANDS))
    for path, text in pages.items():
        # Pages of results name options of benchmarks.
        if path.name in ("CONTRIBUTING.md", "ARCHITECTURE.md") or path.parent.name == "results":
            continue
        # Not lines of other programs: those of benchmarks, blocks of text and Python, the README's setup.
        own = re.sub(r"`python [^`]*`|```(text|python|json)\n.*?```", "", text, flags=re.S)
        own = re.sub(r"^(python3|\S*pip|sphinx\S*|\S*/(pip|sphinx\S*)) .*", "", own, flags=re.M)
        used = set(re.findall(r"(?<![\w*-])(-[a-z][a-z-]+)", own))
        assert used - known == set(), path


def test_every_command_line_in_the_documents_is_understood(pages):
    """Lines of a command in code blocks are read by the command's own parser."""
    seen = set()
    for text in pages.values():
        for block in re.findall(r"```bash\n(.*?)```", text, flags=re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.partition(" > ")[0], comments=True)
                if words and words[0].startswith("sct7t_"):
                    name = words[0].removeprefix("sct7t_")
                    # An option such as -effects answers, and ends with 0; this one needs the libraries of training.
                    answers = (SystemExit,) if find_spec("torch") else (SystemExit, ImportError)
                    with contextlib.suppress(*answers) if "-effects" in words else contextlib.nullcontext():
                        import_module(f"sctseg7t.cli.{name}").parser().parse_args(words[1:])
                    seen.add(name)
    assert len(seen) >= 4


def test_every_flag_of_the_code_is_declared(root):
    """Names of flags are constants or words in the code that measures: each stands in the declaration too."""
    declared = {flag.name for flag in FLAGS}
    assert len(declared) == len(FLAGS) and NOT_AVERAGED < declared
    sources = [path for room in ("measure", "cord") for path in (root / "sctseg7t" / room).glob("*.py")]
    words = {word for path in sources for word in re.findall(r'"([a-z]+(?:_[a-zA-Z]+)+)"', path.read_text())}
    kinds = re.compile(r".*(_unsure|_edge|_jump|_implausible|_low|_unusual|_end|_outside_sc)")
    assert {word for word in words if kinds.fullmatch(word)} <= declared


def test_version_is_in_changelog_and_citation(root):
    assert f"## {__version__}" in (root / "CHANGELOG.md").read_text()
    assert f"version: {__version__}" in (root / "CITATION.cff").read_text()


@pytest.mark.skipif(find_spec("sphinx") is None, reason="needs the extra docs")
def test_site_fills_its_marks(root):
    """Every command with its options, every flag and every column of the code is on its page."""
    code = "import generate; [print(part()) for part in generate.PARTS.values()]"
    done = subprocess.run([sys.executable, "-c", code], cwd=root / "docs", capture_output=True, text=True, check=True)
    for name in COMMANDS:
        parser = import_module(f"sctseg7t.cli.{name}").parser()
        assert f"## {parser.prog}\n" in done.stdout
        assert all(f"`{action.option_strings[0]}`" in done.stdout for action in parser.words.values())
    assert all(f"`{flag.name}`" in done.stdout for flag in FLAGS)
    assert "`area_corrected_mm2`" in done.stdout

"""A benchmark's page: what was printed, below what printed it."""

import sys

import pytest

from sctseg7t import __version__
from sctseg7t.report import plotting
from sctseg7t.report import results_page as page

DOC = """Says how well it does.

    python benchmark/x.py [-data FOLDER]

Scans are ``development`` scans.
They were looked at.
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Run a benchmark with ``-page``: (exit code, text of its page or None)."""

    def run(main, *argv, name="x.md"):
        target = tmp_path / name
        monkeypatch.setattr(sys, "argv", ["benchmark/x.py", *argv, "-page", str(target)])
        code = page.run(main, DOC, "How well")
        return code, target.read_text() if target.exists() else None

    return run


def test_page_says_what_printed_it_and_what_was_printed(written, tmp_path):
    def main():
        assert sys.argv[1:] == ["-data", "/somewhere/data"]
        page.name_models("gm_sc")
        print("## Scans\n")
        page.table(("scan", "Dice"), [("a", "0.9"), ("longer", "0.85")])
        print("One sentence.\n\nname      1.0  2.0\nother     3.0  4.0")
        drawn, _ = plotting.new_figure(1, 1, 1, 1)
        page.figure(drawn, "points", "Each scan a point.")

    code, text = written(main, "-data", "/somewhere/data")
    assert code == 0
    assert "| scan   | Dice |\n| ------ | ---: |\n| a      |  0.9 |" in text
    parts = ("# How well", f"sctseg7t {__version__}", "cord_gm_sc ", "sha256", "are `development` scans.", "## Scans")
    for part in parts:
        assert part in text
    # Columns made by spaces keep them; the machine's folders are nobody's business; lines of usage are no prose.
    assert "```text\nname      1.0  2.0\nother     3.0  4.0\n```" in text and "\n\nOne sentence.\n\n" in text
    assert "-data data" in text and "/somewhere" not in text and "[-data FOLDER]" not in text
    assert "![Each scan a point.](points.png)" in text and (tmp_path / "points.png").is_file()


def test_a_benchmark_that_fails_leaves_the_page_alone(written, tmp_path):
    (tmp_path / "x.md").write_text("before")
    assert written(lambda: 2) == (2, "before")
    with pytest.raises(RuntimeError):
        written(lambda: (_ for _ in ()).throw(RuntimeError))
    assert (tmp_path / "x.md").read_text() == "before"


def test_without_the_option_nothing_is_written(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["x.py"])
    drawn, _ = plotting.new_figure(1, 1, 1, 1)
    assert page.run(lambda: page.figure(drawn, "points", "text"), DOC, "T") == 0
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out == ""
    monkeypatch.setattr(sys, "argv", ["x.py", "-page"])
    assert page.run(lambda: 0, DOC, "T") == 2


def test_every_benchmark_can_write_its_page(root):
    """Scripts that are run print through the page; those that others import do not."""
    for path in (root / "benchmark").glob("[as]*/*.py"):
        text = path.read_text()
        if "__main__" in text and path.stem not in ("process", "picture", "failures"):
            assert "run_with_page(main, __doc__" in text, path


def test_the_pages_that_are_written_together_are_those_of_benchmarks(root):
    sys.path.insert(0, str(root / "benchmark"))
    import pages

    for name, line in pages.PAGES.items():
        assert (root / "benchmark" / line.split()[0]).is_file(), name

"""The commands of the tutorials, run in order as a reader runs them."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
# A comment above a block says why it is not run: <!-- not run: needs your scans -->
BLOCK = re.compile(r"(?P<skip><!-- not run: [^>]+ -->\n+)?```(?P<kind>bash|python)\n(?P<code>.*?)```", re.S)
PAGES = sorted(path for path in TUTORIALS.glob("*.md") if path.stem != "index")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_tutorial_runs(page, tmp_path):
    blocks = [found for found in BLOCK.finditer(page.read_text()) if not found["skip"]]
    code = "".join(found["code"] for found in blocks)
    if re.search("sct7t_(simulate|train)", code) and not find_spec("torch"):
        pytest.skip("needs the extra train")
    # The commands of this environment, on the CPU, and nothing of the user's.
    env = {name: value for name, value in os.environ.items() if not name.startswith("SCT7T_")}
    env |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}", "SCT7T_CACHE": str(tmp_path / "cache")}
    # Where zoos of others are kept.
    env["HOME"] = str(tmp_path / "home")
    for found in blocks:
        shell = ["bash", "-eu"] if found["kind"] == "bash" else [sys.executable]
        done = subprocess.run(
            [*shell, "-c", found["code"]], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{found['code']}\n{done.stderr[-3000:]}"
        if found["kind"] == "python":
            print(done.stdout)

"""The wheel holds all that a run needs, and works from a place that knows nothing of the checkout."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

SOURCES = ("sctseg7t", "cli", "models.json", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    """Path of a wheel built from a copy of the checkout."""
    # Found, not imported: setuptools refuses to be imported once distutils is.
    for module in ("pip", "setuptools"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is needed to build a wheel")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (root / name).is_dir():
            shutil.copytree(root / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(root / name, source / name)
    line = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        ".",
        "-w",
        str(folder),
    ]
    built = subprocess.run(line, cwd=source, capture_output=True, text=True, check=False)
    if built.returncode and "bdist_wheel" in built.stderr:
        pytest.skip("this setuptools needs the package wheel to build one")
    assert built.returncode == 0, built.stderr[-2000:]
    (path,) = folder.glob("*.whl")
    return path


def test_contents(wheel, root):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        manifest = json.loads(archive.read("sctseg7t/models.json"))
        # A link is stored as the text of its target: the content must be the file's.
        assert archive.read("sctseg7t/models.json") == (root / "models.json").read_bytes()
    shipped = [url for m in manifest["models"] for f in m["files"] for url in f["urls"] if url.startswith("package:")]
    assert shipped
    assert {f"sctseg7t/{url.removeprefix('package:')}" for url in shipped} <= names
    assert "sctseg7t/zoo/models.schema.json" in names
    for folder, pattern, place in (
        (root / "cli", "*.py", "sctseg7t/cli"),
        (root / "sctseg7t" / "train" / "recipes", "*.json", "sctseg7t/train/recipes"),
        (root / "sctseg7t" / "simulate" / "recipes", "*.json", "sctseg7t/simulate/recipes"),
    ):
        expected = {f"{place}/{path.name}" for path in folder.glob(pattern)}
        assert expected and expected <= names
    assert {name.split("/")[0] for name in names} - {"sctseg7t"} == {
        next(n for n in names if "dist-info" in n).split("/")[0]
    }


def test_every_module_is_shipped(wheel, root):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {
        path.relative_to(root).as_posix() for path in (root / "sctseg7t").rglob("*.py") if "cli" not in path.parts
    }
    assert modules <= names, f"add the package to setup.cfg: {sorted(modules - names)}"


def test_run_from_the_unpacked_wheel(wheel, example, tmp_path):
    place, out, cwd = (tmp_path / name for name in ("site", "out", "cwd"))
    cwd.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    env = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    env.pop("SCT7T_MANIFEST", None)
    line = [sys.executable, "-m", "sctseg7t.cli.deepseg", "-i", str(example), "-ofolder", str(out), "-device", "cpu"]
    done = subprocess.run(line, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "t2s_csa.csv",
        "t2s_deepseg.json",
        "t2s_gmseg.nii.gz",
        "t2s_seg.nii.gz",
        "t2s_wmseg.nii.gz",
    ]
    code = "import sctseg7t.cli.deepseg as c, sctseg7t.inference.pipeline as p; print(c.__file__); print(p.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=True)
    assert all(path.startswith(str(place)) for path in found.stdout.split())

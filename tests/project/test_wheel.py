"""The wheel holds all that a run needs, and works from a place that knows nothing of the checkout."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SOURCES = ("sctseg7t", "cli", "examples", "models.json", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


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


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Run a command of the wheel, installed in an environment of its own, from a folder outside the checkout."""
    place = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place / "env")], check=True)
    scripts = next(path for name in ("bin", "Scripts") if (path := place / "env" / name).is_dir())
    line = [sys.executable, "-m", "pip", "--python", str(scripts / "python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*line, "--no-index", str(wheel)], check=True)
    # The libraries are those of the tests. A line of a .pth is a place to look in; its own .pth files are not read,
    # so that an editable installation of the checkout is not seen.
    (site,) = (place / "env").rglob("site-packages")
    (site / "libraries.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SCT7T_"))}
    cwd = place / "cwd"
    cwd.mkdir()

    def run(name, *argv):
        done = subprocess.run(
            [str(scripts / name), *argv],
            cwd=cwd,
            env={**env, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, cwd

    return run


def test_first_steps_with_the_wheel_alone(installed):
    _, cwd = installed("sct7t_download", "example")
    installed("sct7t_deepseg", "-i", "example/t2s.nii.gz", "-ofolder", "out", "-device", "cpu")
    assert sorted(path.name for path in (cwd / "out").iterdir()) == [
        "t2s_csa.csv",
        "t2s_deepseg.json",
        "t2s_gmseg.nii.gz",
        "t2s_seg.nii.gz",
        "t2s_wmseg.nii.gz",
    ]
    code = "import sctseg7t.cli.deepseg as c, sctseg7t.inference.pipeline as p; print(c.__file__); print(p.__file__)"
    found, _ = installed("python", "-c", code)
    assert all(Path(path).is_relative_to(cwd.parent) for path in found.split())


def test_the_doctor_finds_the_wheel_sound(installed):
    said, _ = installed("sct7t", "doctor")
    assert "All is well" in said

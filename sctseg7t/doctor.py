"""The installation, checked: versions, devices, models, places to write, and the example segmented."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sctseg7t.errors import UserError
from sctseg7t.text import one_line
from sctseg7t.version import __version__

EXAMPLE = Path(__file__).parent / "examples"
OK, NOTE, ERROR = "ok", "note", "error"
# The example's masks must overlap with the truth that it was simulated from by so much at least.
_DICE = {"SC": 0.95, "GM": 0.8}
_MEMORY_MB, _DISK_MB = 1000, 500
_EXTRAS = {"train": ("torch", "monai", "torchio"), "dask": ("distributed",)}
_SETTINGS = ("SCT7T_CACHE", "SCT7T_MIRROR", "SCT7T_OFFLINE", "SCT7T_MANIFEST")


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes
    ----------
    what : str
    state : str
        ``ok``; ``note``: something is not there that only some need; ``error``: it must be mended.
    text : str
        What is, and where it must be mended, how.
    """

    what: str
    state: str
    text: str


def findings() -> Iterator[Finding]:
    """Check the installation, one thing after the other. Nothing is downloaded, and nothing stays behind."""
    for check in (_versions, _packages, _extras, _machine, _cuda, _models, _settings, _places, _example):
        yield from _told(check)


def _told(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Findings of a check; one that breaks is a finding too."""
    try:
        yield from check()
    except UserError as error:
        yield Finding(check.__name__.strip("_"), ERROR, str(error))
    except Exception as error:
        yield Finding(check.__name__.strip("_"), ERROR, f"{type(error).__name__}: {one_line(error, 200)}")


def _versions() -> Iterator[Finding]:
    yield Finding("sctseg7t", OK, f"{__version__}, in {Path(__file__).parent}")
    yield Finding("Python", OK, f"{platform.python_version()}, {sys.executable}; {platform.platform()}")


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    needed = [Requirement(text) for text in importlib.metadata.requires("sctseg7t") or ()]
    found, bad = [], []
    for package in needed:
        if package.marker and not package.marker.evaluate({"extra": ""}):
            continue
        name, version = package.name, _version(package.name)
        if version is None and name == "onnxruntime-gpu":
            # The CPU build does the same job without CUDA.
            name, version = "onnxruntime", _version("onnxruntime")
        if version is None or version not in package.specifier:
            bad.append(f"{package.name} {'is missing' if version is None else version}, needed is {package.specifier}")
        found.append(f"{name} {version}")
    if bad:
        yield Finding("packages", ERROR, f"{'; '.join(bad)}: pip install --upgrade sctseg7t")
    else:
        named = [text for text in found if text.startswith(("numpy", "nibabel", "onnxruntime"))]
        yield Finding("packages", OK, f"all {len(found)} that running needs, with {', '.join(named)}")
    if _version("onnxruntime") and _version("onnxruntime-gpu"):
        text = "onnxruntime and onnxruntime-gpu hide each other: pip uninstall both, then pip install one of them"
        yield Finding("packages", NOTE, text)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extras() -> Iterator[Finding]:
    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        text = f"{', '.join(missing)} not installed: pip install 'sctseg7t[{extra}]'" if missing else "installed"
        yield Finding(f"extra {extra}", NOTE if missing else OK, text)
    programs = {"sct_version": "the Spinal Cord Toolbox (sct7t_compare -sct)", "hd-bet": "-strip hd-bet"}
    for program, use in programs.items():
        where = shutil.which(program)
        yield Finding(program, OK if where else NOTE, where or f"not on PATH; only {use} needs it")


def _machine() -> Iterator[Finding]:
    from sctseg7t.runtime.session import usable_cpus

    yield Finding("CPU", OK, f"{usable_cpus()} that this process may use")
    known = re.search(r"MemAvailable:\s*(\d+) kB", _read("/proc/meminfo"))
    if known:
        free = int(known[1]) // 1024
        enough = free >= _MEMORY_MB
        text = f"{free} MB free" + ("" if enough else f"; a brain takes about {_MEMORY_MB} MB: close other programs")
        yield Finding("memory", OK if enough else NOTE, text)


def _cuda() -> Iterator[Finding]:
    import onnxruntime

    from sctseg7t.runtime.session import cuda_problem

    problem = cuda_problem(onnxruntime, 0)
    text = f"{problem}; the CPU is used" if problem else "there is a device; -device auto uses it"
    yield Finding("CUDA", NOTE if problem else OK, text)


def _models() -> Iterator[Finding]:
    from sctseg7t.zoo.manage import verify
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    tasks: dict[str, list[str]] = {}
    for task in manifest.tasks():
        tasks.setdefault(manifest.default_for_task(task).label, []).append(task)
    for label, own in tasks.items():
        spec, what = manifest.model(label), ", ".join(own)
        states = {row.status for row in verify(spec.label, manifest)}
        if states == {"ok"}:
            yield Finding(what, OK, f"{spec.label}, its files have the right hashes")
        elif "damaged" in states:
            yield Finding(what, ERROR, f"{spec.label} is damaged: sct7t_download install {spec.label}")
        else:
            text = f"{spec.label} is not on this machine; if you need it: sct7t_download install {spec.label}"
            yield Finding(what, NOTE, text)


def _settings() -> Iterator[Finding]:
    for name in _SETTINGS:
        if name in os.environ:
            yield Finding(name, OK, os.environ[name])


def _places() -> Iterator[Finding]:
    from sctseg7t.zoo.cache import cache_dir, mirror_dir

    places = {"model cache": cache_dir(), "temporary folder": Path(tempfile.gettempdir()), "this folder": Path.cwd()}
    mending = {"model cache": "set SCT7T_CACHE to one", "temporary folder": "set TMPDIR to one"}
    for what, folder in places.items():
        # A cache that is not there yet is made where its nearest folder can be written.
        nearest = next(part for part in (folder, *folder.parents) if part.exists())
        if not _can_write(nearest):
            remedy = mending.get(what, "give -ofolder or -o one")
            yield Finding(what, ERROR if what in mending else NOTE, f"{folder} cannot be written: {remedy} that can")
            continue
        free = shutil.disk_usage(nearest).free // 2**20
        enough = free >= _DISK_MB
        yield Finding(
            what, OK if enough else NOTE, f"{folder}, {free} MB free" + ("" if enough else ": that is little")
        )
    mirror = mirror_dir()
    if mirror is not None and not mirror.is_dir():
        yield Finding("mirror", ERROR, f"{mirror}: no such folder; SCT7T_MIRROR names it")


def _can_write(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _example() -> Iterator[Finding]:
    """Segment the example on the CPU, and compare with the truth that it was simulated from."""
    import nibabel as nib
    import numpy as np

    import sctseg7t

    def values_of(image: Any) -> np.ndarray:
        return np.asarray(image.dataobj)

    begun = time.monotonic()
    found = sctseg7t.segment(EXAMPLE / "t2s.nii.gz", device="cpu").masks
    seconds = time.monotonic() - begun
    told, right = [], True
    for tissue, name in {"SC": "t2s_seg-truth.nii.gz", "GM": "t2s_gmseg-truth.nii.gz"}.items():
        mask, truth = (values_of(image) > 0.5 for image in (found[tissue], nib.load(EXAMPLE / name)))
        dice = 2 * (mask & truth).sum() / max(mask.sum() + truth.sum(), 1)
        told.append(f"{tissue} {dice:.3f}")
        right &= dice >= _DICE[tissue]
    text = f"segmented in {seconds:.1f} s, Dice against its truth: {', '.join(told)}"
    if right:
        yield Finding("example", OK, text)
    else:
        least = " and ".join(f"{tissue} {limit}" for tissue, limit in _DICE.items())
        yield Finding("example", ERROR, f"{text}; at least {least} is right: install again")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""

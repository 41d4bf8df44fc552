"""Imports nibabel without the packages that it loads on the way and that reading NIfTI never needs.

``import nibabel`` also imports pydicom and scipy where they are installed, and the standard library's HTTP client:
together two thirds of its time. Here it finds placeholders in their stead. They load the real modules when something in
them is asked for, so nibabel's DICOM extensions, SPM files and addresses work as ever. Afterwards the placeholders are
gone from ``sys.modules``: ``import pydicom`` elsewhere is the real one.
"""

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType

_UNUSED = ("pydicom", "scipy", "urllib.request")


class _Placeholder(ModuleType):
    """Stands for a module until something in it is asked for."""

    def __getattr__(self, name: str):
        _remove(self)
        return getattr(importlib.import_module(self.__name__), name)


def _remove(placeholder: ModuleType) -> None:
    if sys.modules.get(placeholder.__name__) is placeholder:
        del sys.modules[placeholder.__name__]


def _import_nibabel() -> None:
    held = [_Placeholder(name) for name in _UNUSED if name not in sys.modules and find_spec(name)]
    sys.modules.update({module.__name__: module for module in held})
    for module in held:
        if module.__name__ == "pydicom":
            # nibabel names this class in an annotation while it is imported.
            vars(module)["Dataset"] = object
    try:
        import nibabel  # noqa: F401
    finally:
        for module in held:
            _remove(module)
            vars(module).pop("Dataset", None)


if "nibabel" not in sys.modules:
    _import_nibabel()

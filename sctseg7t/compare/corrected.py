"""Which masks of a method were corrected by hand: they are compared as they lie, and that is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sctseg7t.compare.types import Case, Problem
from sctseg7t.files import read_json
from sctseg7t.inference.corrections import recorded
from sctseg7t.inference.outputs import SIDECAR


def corrected_masks(
    cases: Sequence[Case], inputs: Mapping[str, Sequence[Mapping[str, Any]]], reference: str | None
) -> Iterator[Problem]:
    """Notes on masks of methods that the record beside them calls corrected, or that are no longer what it says.

    A method is judged by the masks that are given. Drawn masks in ``derivatives/labels`` do not take their place here:
    they are what methods are compared with.

    Parameters
    ----------
    cases : sequence of Case
    inputs : dict of str to sequence of dict
        By case: method, structure, file and sha256 of each mask.
    reference : str or None
    """
    known = _Records()
    found: dict[tuple[str, str], list[str]] = {}
    for case in cases:
        for mask in inputs[case.name]:
            if mask["method"] != reference and mask["sha256"] and known(Path(mask["file"]), mask):
                found.setdefault((mask["method"], mask["structure"]), []).append(case.name)
    for (method, structure), names in found.items():
        some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        count = "1 mask" if len(names) == 1 else f"{len(names)} masks"
        text = (
            f"{structure}: {count} of {method} corrected by hand ({some}), compared as found: "
            "its numbers are not those of the method alone"
        )
        yield Problem("corrected", text, False, names[0], method, structure)


class _Records:
    """What the records of a folder say of the masks in it; each folder is read once."""

    def __init__(self) -> None:
        self.folders: dict[Path, dict[str, tuple[str | None, Mapping[str, Any]]]] = {}

    def __call__(self, path: Path, mask: Mapping[str, Any]) -> bool:
        """Whether a mask is corrected by its record, or another than its record says."""
        digest, tissues = self._of(path.parent).get(path.name, (None, {}))
        return mask["structure"] in tissues or digest not in (None, mask["sha256"])

    def _of(self, folder: Path) -> dict[str, tuple[str | None, Mapping[str, Any]]]:
        if folder not in self.folders:
            self.folders[folder] = {}
            for path in folder.glob(f"*{SIDECAR}"):
                raw = read_json(path)
                for name, file in (raw.get("files") or {}).items():
                    self.folders[folder][name] = file.get("sha256"), recorded(raw)
        return self.folders[folder]

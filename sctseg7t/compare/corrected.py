"""Which masks of a method were corrected by hand: they are compared as they lie, and that is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sctseg7t.compare.types import Case, Problem
from sctseg7t.inference.outputs import SIDECAR
from sctseg7t.inference.record import recorded_files


def corrected_masks(
    cases: Sequence[Case], inputs: Mapping[str, Sequence[Mapping[str, Any]]], reference: str | None
) -> Iterator[Problem]:
    """Notes on masks of methods that are no longer what the record beside them says.

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
        text = (
            f"{structure}: {len(names)} masks of {method} were corrected by hand ({some}); they are compared as they "
        )
        text += "are, so its numbers are not those of the method alone"
        yield Problem("corrected", text, False, names[0], method, structure)


class _Records:
    """Hashes that the records of a folder name; each folder is read once."""

    def __init__(self) -> None:
        self.folders: dict[Path, dict[str, str | None]] = {}

    def __call__(self, path: Path, mask: Mapping[str, Any]) -> bool:
        """Whether a mask is another than its record says."""
        if path.parent not in self.folders:
            found = (recorded_files(one) for one in path.parent.glob(f"*{SIDECAR}"))
            self.folders[path.parent] = {name: file.get("sha256") for files in found for name, file in files.items()}
        return self.folders[path.parent].get(path.name) not in (None, mask["sha256"])

"""The labelled scans of one training: who they are of, and which part of the split each person is in."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sctseg7t.files import write_csv
from sctseg7t.train.scans.labelled import LabelledScan
from sctseg7t.train.scans.splits import PARTS, Split, check_people, write_splits

# In a run's folder: the scans as a list that reads them again, and the split.
SCANS, SPLITS = "scans.csv", "splits.json"


@dataclass(frozen=True)
class Learning:
    """Labelled scans and their split.

    Attributes
    ----------
    scans : list of LabelledScan
    split : Split
    source : str
        Where the split comes from: a file, or how it was made.
    cache : Path or None
        Folder of what is made ready once; None: beside the run.
    named : tuple of str
        What the card calls the data: names of folders and lists.
    """

    scans: Sequence[LabelledScan]
    split: Split
    source: str = "given"
    cache: Path | None = None
    named: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_people(self.split, self.scans, self.source)

    def part(self, name: str) -> list[LabelledScan]:
        """The scans of ``train``, ``validation`` or ``test``."""
        return self.split.scans(name, self.scans)

    def record(self) -> Mapping[str, Any]:
        """What a run writes down of them; the hash of the files tells whether they are the same scans again."""
        files = {scan.name: list(scan.digests().values()) for scan in self.scans}
        return {
            "sources": list(self.named) or ["labelled scans"],
            "split": self.split.name,
            "splits_from": self.source,
            "splits_sha256": self.split.digest(),
            **{part: {"people": len(getattr(self.split, part)), "scans": len(self.part(part))} for part in PARTS},
            "files_sha256": hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest(),
        }

    def write(self, run: Path) -> None:
        """Write scans and split into a run's folder, so that its export can measure the test part."""
        rows = [
            {
                "image": scan.image.resolve(),
                **{name: path.resolve() for name, path in (*scan.masks.items(), *scan.files.items())},
                "subject": scan.subject,
                "session": scan.session,
                "name": scan.name,
            }
            for scan in self.scans
        ]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        write_csv(run / SCANS, columns, [{name: str(row.get(name, "")) for name in columns} for row in rows])
        write_splits(run / SPLITS, [self.split], {"made": self.source})

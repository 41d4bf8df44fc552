"""The cohort's tables: every slice, level, lesion and scan, put together from the records on disk."""

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sctseg7t.cohort.participants import NOBODY, Participants, read_participants
from sctseg7t.errors import InputError
from sctseg7t.files import write_csv
from sctseg7t.inference.record import BRAIN, CORD, TABLES_OF, Record, read_record, sidecars
from sctseg7t.measure.checks import TRUNCATED
from sctseg7t.measure.columns import (
    COHORT_TABLES,
    CSA_MEASURES,
    DICTIONARY_COLUMNS,
    LOAD_COLUMNS,
    TISSUES,
    WHO_COLUMNS,
    Column,
    names,
    scan_columns,
)

_OURS = {"sub": "subject", "ses": "session", "run": "run"}
DICTIONARY = "cohort_dictionary"


# Which of a scan's own tables each is put together from.
_PARTS = {"cohort_slices": "csa", "cohort_levels": "levels", "cohort_lesions": "lesions"}
_WORDS = {"csa": "area table", "lesions": "lesion table", "load": "table of lesion load"}


def write_tables(
    out: str | Path,
    *,
    paths: Sequence[str | Path] | None = None,
    participants: str | Path | None = None,
) -> tuple[list[Path], list[str]]:
    """Write ``cohort_scans.csv``, a dictionary, and ``cohort_slices.csv``, ``_levels.csv``, ``_lesions.csv``.

    UTF-8, comma, LF, one header line, empty cells for what is not known. Scans are read one by one, so that
    memory does not grow with the cohort. Of the last three those are written of which any scan has the table; one
    of an earlier run is removed.

    Parameters
    ----------
    out : path
        Folder of the records and of the tables.
    paths : sequence of path, optional
        Sidecars to use (default: all below `out`); those that do not exist are left out.
    participants : path, optional
        A participants.tsv whose columns are joined in.

    Returns
    -------
    files : list of Path
    notes : list of str
        What should be known about them, in words.

    Raises
    ------
    OutputError, UsageError
    """
    out = Path(out)
    paths = sidecars(out) if paths is None else [path for path in map(Path, paths) if path.is_file()]
    found = _survey(paths)
    columns = {table: COHORT_TABLES[table] for table, part in _PARTS.items() if part in found.parts}
    columns["cohort_scans"] = scan_columns(found.kinds or {CORD})
    taken = {*found.entities, *(name for own in COHORT_TABLES.values() for name in names(own))}
    people = read_participants(participants, taken) if participants else NOBODY
    entities = [Column(name, description=f"BIDS entity {name}-") for name in found.entities]
    joined = [
        Column(ours, description=people.descriptions.get(theirs) or f"column {theirs} of participants.tsv")
        for ours, theirs in people.columns.items()
    ]
    files, described = [], []
    for table, own in columns.items():
        first = len(WHO_COLUMNS)
        header = [*own[:first], *entities, *own[first:], *joined]
        files.append(write_csv(out / f"{table}.csv", header, _all_rows(paths, _PARTS.get(table), own, people)))
        described += [
            {"table": f"{table}.csv", "column": c.name, "unit": c.unit, "description": c.description} for c in header
        ]
    for table in _PARTS.keys() - columns.keys():
        (out / f"{table}.csv").unlink(missing_ok=True)
    files.append(write_csv(out / f"{DICTIONARY}.csv", DICTIONARY_COLUMNS, described))
    return files, _notes(people, found, participants)


@dataclass(frozen=True)
class _Survey:
    """What the records have: entities and subjects in order, kinds of scan, kinds of table, and tables missing."""

    entities: dict[str, None] = field(default_factory=dict)
    subjects: dict[str, None] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)
    missing: dict[str, list[str]] = field(default_factory=dict)


def _survey(paths: Iterable[Path]) -> _Survey:
    found = _Survey()
    for record in map(read_record, paths):
        # In the order of BIDS names; the suffix tells scans of different kinds apart.
        found.entities.update(dict.fromkeys(key for key in record.entities if key not in (*_OURS, "suffix")))
        found.subjects[record.entities.get("sub", "")] = None
        found.parts.update(part for part in _PARTS.values() if record.table(part))
        if record.kind:
            found.kinds.add(record.kind)
            for part in TABLES_OF[record.kind]:
                path = record.table(part)
                if not (path and path.is_file()):
                    found.missing.setdefault(part, []).append(record.name)
    return found


def _all_rows(
    paths: Iterable[Path], part: str | None, columns: Sequence[Column], people: Participants
) -> Iterator[dict[str, Any]]:
    """Rows of one table of all records: those of a part (csa, levels, lesions), or one a scan."""
    for record in map(read_record, paths):
        entities = {_OURS.get(key, key): value for key, value in record.entities.items() if key != "suffix"}
        common = {**people.of(record.entities.get("sub", "")), **entities, "scan": record.name}
        rows = _part_rows(record, part, names(columns)) if part else [_scan_row(record)]
        for row in rows:
            yield {**row, **common}


def _part_rows(record: Record, part: str, known: Collection[str]) -> Iterator[dict[str, str]]:
    """Rows of a scan's own table but for the name of its file."""
    for row in read_csv(record.table(part)):
        row.pop("filename", None)
        if not row.keys() <= set(known):
            raise InputError(
                f"{record.table(part)}: has columns that this version does not know "
                f"({', '.join(sorted(row.keys() - set(known)))}); run the scan again, or use the version that wrote it"
            )
        yield row


def _scan_row(record: Record) -> dict[str, Any]:
    raw = record.raw
    model = raw.get("model", {})
    warnings = raw.get("warnings", [])
    return {
        "status": record.status,
        "error_kind": record.error_kind,
        "error": record.error,
        **(_load(record) if record.kind == BRAIN else summary(read_csv(record.table("csa")))),
        "n_warnings": len(warnings),
        "warnings": " | ".join(warnings),
        "model": f"{model['id']}@{model['version']}" if model else "",
        "model_sha256": model.get("sha256", ""),
        "input_sha256": raw.get("input", {}).get("sha256", ""),
        "device": raw.get("device", ""),
        # Opening the model was shared with other scans.
        "seconds": round(sum(v for k, v in raw.get("seconds", {}).items() if k != "open"), 3) or "",
        "tool_version": raw.get("tool", {}).get("version", ""),
    }


def _load(record: Record) -> dict[str, Any]:
    """Lesions of a brain, all in all: the row that the run wrote, with its flags counted."""
    row = next(iter(read_csv(record.table("load"))), {})
    content = {name: row.get(name) for name in names(LOAD_COLUMNS) if name not in ("filename", "tool_version")}
    flags = Counter(flag for lesion in read_csv(record.table("lesions")) for flag in lesion["flags"].split(";") if flag)
    content["flags"] = _counted(flags)
    volume = (record.raw.get("brain") or {}).get("brain_ml")
    return content | {"brain_volume_ml": volume if volume is None else float(volume)}


def _counted(flags: Mapping[str, int]) -> str:
    return ";".join(f"{flag}:{count}" for flag, count in sorted(flags.items()))


def summary(rows: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """Numbers of one scan from the rows of its area table.

    Parameters
    ----------
    rows : iterable of dict of str to str

    Returns
    -------
    dict
        Keys of the scan table from ``n_slices`` to ``gm_sc_area_ratio``. Slices that an edge cuts are in no area.
    """
    slices = {}
    for row in rows:
        slices.setdefault((row["volume"], row["slice"]), {})[row["tissue"]] = row
    if not slices:
        return {}
    flags = {
        place: {flag for row in tissues.values() for flag in row["flags"].split(";") if flag}
        for place, tissues in slices.items()
    }
    kept = {place: tissues for place, tissues in slices.items() if not flags[place] & TRUNCATED}
    counts = Counter(flag for found in flags.values() for flag in found)
    content = {
        "n_slices": len(slices),
        "n_averaged": sum(any(row["area_mm2"] for row in _leading(tissues)) for tissues in kept.values()),
        "n_flagged": sum(map(bool, flags.values())),
        "flags": _counted(counts),
    }
    averaged = [column.name for column in CSA_MEASURES if column.averaged]
    for tissue in TISSUES:
        for name in averaged:
            values = [float(t[tissue][name]) for t in kept.values() if tissue in t and t[tissue].get(name)]
            if values:
                stem = f"{tissue.lower()}_{name}"
                content |= {f"{stem}_mean": sum(values) / len(values), f"{stem}_min": min(values)}
                content[f"{stem}_max"] = max(values)
    both = [
        (float(t["GM"]["area_mm2"]), float(t["SC"]["area_mm2"]))
        for t in kept.values()
        if {"SC", "GM"} <= set(t) and t["GM"]["area_mm2"] and t["SC"]["area_mm2"]
    ]
    if both and sum(sc for _, sc in both) > 0:
        content["gm_sc_area_ratio"] = sum(gm for gm, _ in both) / sum(sc for _, sc in both)
    return content


def _leading(tissues):
    """The row that says whether a slice was measured: that of SC, or of the only tissue."""
    return [tissues["SC"]] if "SC" in tissues else list(tissues.values())


def read_csv(path: str | Path | None) -> list[dict[str, str]]:
    """Rows of a table as dicts of text; none if there is no such file."""
    if path is None or not Path(path).is_file():
        return []
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _notes(people, found, participants):
    notes = []
    strangers = sorted(subject for subject in found.subjects if subject and subject not in people.rows)
    if participants and strangers:
        some = _some([f"sub-{subject}" for subject in strangers])
        notes.append(f"{participants}: no row for {some}; their cells are empty")
    renamed = [f"{theirs} is {ours}" for ours, theirs in people.columns.items() if ours != theirs]
    if renamed:
        notes.append(f"{participants}: names that the tables use themselves: {', '.join(renamed)}")
    for part, scans in found.missing.items():
        notes.append(f"no {_WORDS[part]} beside the masks of {_some(scans)}; segment these scans again")
    return notes


def _some(things: Sequence[str]) -> str:
    """The first five of a list, in words."""
    return ", ".join(things[:5]) + (f" and {len(things) - 5} more" if len(things) > 5 else "")

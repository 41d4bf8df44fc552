"""The cohort's tables: every slice, level, lesion and scan, put together from the records on disk."""

import csv
import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sctseg7t.cohort import dictionary
from sctseg7t.cohort.participants import NOBODY, read_participants
from sctseg7t.cohort.records import BRAIN, CORD, TABLES_OF, read_record, sidecars
from sctseg7t.files import writing
from sctseg7t.measure.checks import TRUNCATED

_OURS = {"sub": "subject", "ses": "session", "run": "run"}
DICTIONARY = "cohort_dictionary"


# Which of a scan's own tables each is put together from.
_PARTS = {"cohort_slices": "csa", "cohort_levels": "levels", "cohort_lesions": "lesions"}
_WORDS = {"csa": "area table", "lesions": "lesion table", "load": "table of lesion load"}


def write_tables(out, *, paths=None, participants=None):
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
    columns = {table: dictionary.TABLES[table] for table, part in _PARTS.items() if part in found.parts}
    columns["cohort_scans"] = dictionary.scans(found.kinds or {CORD})
    taken = {*found.entities, *(name for own in dictionary.TABLES.values() for name in dictionary.names(own))}
    people = read_participants(participants, taken) if participants else NOBODY
    files, described = [], []
    for table, own in columns.items():
        part = _PARTS.get(table)
        rows = (lambda record, part=part: read_csv(record.table(part))) if part else _scan_rows
        names = dictionary.names(own)
        header = [*names[:3], *found.entities, *names[3:], *people.columns]
        files.append(_write(out / f"{table}.csv", header, _all_rows(paths, rows, people)))
        described += _describe(table, own, found.entities, people)
    for table in _PARTS.keys() - columns.keys():
        (out / f"{table}.csv").unlink(missing_ok=True)
    files.append(_write(out / f"{DICTIONARY}.csv", ("table", "column", "unit", "description"), described))
    return files, _notes(people, found, participants)


@dataclass(frozen=True)
class _Survey:
    """What the records have: entities and subjects in order, kinds of scan, kinds of table, and tables missing."""

    entities: dict = field(default_factory=dict)
    subjects: dict = field(default_factory=dict)
    kinds: set = field(default_factory=set)
    parts: set = field(default_factory=set)
    missing: dict = field(default_factory=dict)


def _survey(paths):
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


def _all_rows(paths, rows, people):
    for record in map(read_record, paths):
        entities = {_OURS.get(key, key): value for key, value in record.entities.items() if key != "suffix"}
        common = {**people.of(record.entities.get("sub", "")), **entities, "scan": record.name}
        for row in rows(record):
            yield {**row, **common}


def _scan_rows(record):
    raw = record.raw
    model = raw.get("model") or next(iter(raw.get("models", ())), {})
    warnings = raw.get("warnings", [])
    yield {
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


def _load(record):
    """Lesions of a brain, all in all: the row that the run wrote, with its flags counted."""
    row = next(iter(read_csv(record.table("load"))), {})
    content = {name: row.get(name) for name in dictionary.names(dictionary.LOAD)}
    flags = Counter(flag for lesion in read_csv(record.table("lesions")) for flag in lesion["flags"].split(";") if flag)
    content["flags"] = _counted(flags)
    volume = (record.raw.get("brain") or {}).get("brain_ml")
    return content | {"brain_volume_ml": volume if volume is None else float(volume)}


def _counted(flags):
    return ";".join(f"{flag}:{count}" for flag, count in sorted(flags.items()))


def summary(rows):
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
    for tissue in ("SC", "GM", "WM"):
        for name in ("area_mm2", "area_corrected_mm2"):
            values = [float(t[tissue][name]) for t in kept.values() if tissue in t and t[tissue][name]]
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


def read_csv(path):
    """Rows of a table as dicts of text; none if there is no such file."""
    if path is None or not Path(path).is_file():
        return []
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _describe(table, own, entities, people):
    extra = [(name, "", f"BIDS entity {name}-") for name in entities]
    joined = [
        (ours, "", people.descriptions.get(theirs) or f"column {theirs} of participants.tsv")
        for ours, theirs in people.columns.items()
    ]
    for name, unit, text in (*own[:3], *extra, *own[3:], *joined):
        yield {"table": f"{table}.csv", "column": name, "unit": unit, "description": text}


def _notes(people, found, participants):
    notes = []
    strangers = sorted(subject for subject in found.subjects if subject and subject not in people.rows)
    if participants and strangers:
        some = ", ".join(f"sub-{subject}" for subject in strangers[:5])
        more = f" and {len(strangers) - 5} more" if len(strangers) > 5 else ""
        notes.append(f"{participants}: no row for {some}{more}; their cells are empty")
    renamed = [f"{theirs} is {ours}" for ours, theirs in people.columns.items() if ours != theirs]
    if renamed:
        notes.append(f"{participants}: names that the tables use themselves: {', '.join(renamed)}")
    for part, names in found.missing.items():
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        notes.append(f"no {_WORDS[part]} beside the masks of {', '.join(names[:5])}{more}; run them again with -force")
    return notes


def _write(path, columns, rows):
    with writing(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n", restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _cell(row.get(key)) for key in columns})
        text.detach()
    return path


def _cell(value):
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value + 0.0:.4f}"
    # One cell is one line, whatever a file was called.
    return " ".join(value.split()) if isinstance(value, str) else value

"""The cohort's tables: every slice, every level and every scan, put together from the records on disk."""

import csv
import io
from collections import Counter
from pathlib import Path

from sctseg7t.cohort import dictionary
from sctseg7t.cohort.participants import NOBODY, read_participants
from sctseg7t.cohort.records import FAILED, read_record, sidecars
from sctseg7t.files import writing
from sctseg7t.measure.checks import TRUNCATED

_OURS = {"sub": "subject", "ses": "session", "run": "run"}
DICTIONARY = "cohort_dictionary"


def write_tables(out, *, paths=None, participants=None):
    """Write ``cohort_slices.csv``, ``cohort_scans.csv``, ``cohort_levels.csv`` with levels, and a dictionary.

    UTF-8, comma, LF, one header line, empty cells for what is not known. Scans are read one by one, so that
    memory does not grow with the cohort.

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
    entities, subjects, levels, missing = {}, {}, False, []
    for record in map(read_record, paths):
        # In the order of BIDS names; the suffix tells scans of different kinds apart.
        entities |= dict.fromkeys(key for key in record.entities if key not in (*_OURS, "suffix"))
        subjects[record.entities.get("sub", "")] = None
        levels = levels or record.levels is not None
        if record.status != FAILED and not (record.csa and record.csa.is_file()):
            missing.append(record.name)
    taken = {*entities, *(name for table in dictionary.TABLES for name in dictionary.names(table))}
    people = read_participants(participants, taken) if participants else NOBODY
    notes = _notes(people, subjects, missing, participants)
    makers = {"cohort_slices": _slice_rows, "cohort_levels": _level_rows, "cohort_scans": _scan_rows}
    files, described = [], []
    for table, rows in makers.items():
        if table == "cohort_levels" and not levels:
            (out / f"{table}.csv").unlink(missing_ok=True)
            continue
        columns = [*dictionary.names(table)[:3], *entities, *dictionary.names(table)[3:], *people.columns]
        files.append(_write(out / f"{table}.csv", columns, _all_rows(paths, rows, people)))
        described += _describe(table, entities, people)
    files.append(_write(out / f"{DICTIONARY}.csv", ("table", "column", "unit", "description"), described))
    return files, notes


def _all_rows(paths, rows, people):
    for record in map(read_record, paths):
        entities = {_OURS.get(key, key): value for key, value in record.entities.items() if key != "suffix"}
        common = {**people.of(record.entities.get("sub", "")), **entities, "scan": record.name}
        for row in rows(record):
            yield {**row, **common}


def _slice_rows(record):
    return read_csv(record.csa)


def _level_rows(record):
    return read_csv(record.levels)


def _scan_rows(record):
    raw = record.raw
    model = raw.get("model") or next(iter(raw.get("models", ())), {})
    warnings = raw.get("warnings", [])
    yield {
        "status": record.status,
        "error_kind": record.error_kind,
        "error": record.error,
        **summary(read_csv(record.csa)),
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
    flags = {place: {flag for row in tissues.values() for flag in row["flags"].split(";") if flag}
             for place, tissues in slices.items()}  # fmt: skip
    kept = {place: tissues for place, tissues in slices.items() if not flags[place] & TRUNCATED}
    counts = Counter(flag for found in flags.values() for flag in found)
    content = {
        "n_slices": len(slices),
        "n_averaged": sum(any(row["area_mm2"] for row in _leading(tissues)) for tissues in kept.values()),
        "n_flagged": sum(map(bool, flags.values())),
        "flags": ";".join(f"{flag}:{count}" for flag, count in sorted(counts.items())),
    }
    for tissue in ("SC", "GM", "WM"):
        for name in ("area_mm2", "area_corrected_mm2"):
            values = [float(t[tissue][name]) for t in kept.values() if tissue in t and t[tissue][name]]
            if values:
                stem = f"{tissue.lower()}_{name}"
                content |= {f"{stem}_mean": sum(values) / len(values), f"{stem}_min": min(values)}
                content[f"{stem}_max"] = max(values)
    both = [(float(t["GM"]["area_mm2"]), float(t["SC"]["area_mm2"])) for t in kept.values()
            if {"SC", "GM"} <= set(t) and t["GM"]["area_mm2"] and t["SC"]["area_mm2"]]  # fmt: skip
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


def _describe(table, entities, people):
    own = list(dictionary.TABLES[table])
    extra = [(name, "", f"BIDS entity {name}-") for name in entities]
    joined = [
        (ours, "", people.descriptions.get(theirs) or f"column {theirs} of participants.tsv")
        for ours, theirs in people.columns.items()
    ]
    for name, unit, text in (*own[:3], *extra, *own[3:], *joined):
        yield {"table": f"{table}.csv", "column": name, "unit": unit, "description": text}


def _notes(people, subjects, missing, participants):
    notes = []
    strangers = sorted(subject for subject in subjects if subject and subject not in people.rows)
    if participants and strangers:
        some = ", ".join(f"sub-{subject}" for subject in strangers[:5])
        more = f" and {len(strangers) - 5} more" if len(strangers) > 5 else ""
        notes.append(f"{participants}: no row for {some}{more}; their cells are empty")
    renamed = [f"{theirs} is {ours}" for ours, theirs in people.columns.items() if ours != theirs]
    if renamed:
        notes.append(f"{participants}: names that the tables use themselves: {', '.join(renamed)}")
    if missing:
        notes.append(f"no area table beside the masks of {', '.join(missing[:5])}; run them again with -force")
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

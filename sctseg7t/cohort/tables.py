"""The cohort's tables: every slice, level, lesion and scan, put together from the records on disk."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sctseg7t.cohort.find import some
from sctseg7t.cohort.participants import Participants, Sessions, read_participants, read_sessions
from sctseg7t.errors import InputError
from sctseg7t.files import read_csv, write_csv
from sctseg7t.inference.corrections import recorded
from sctseg7t.inference.record import BRAIN, CORD, TABLES_OF, Record, read_record, sidecars
from sctseg7t.measure.columns import (
    COHORT_TABLES,
    CSA_MEASURES,
    DICTIONARY_COLUMNS,
    FOLLOWUP_COLUMNS,
    IMAGE_MEASURES,
    LOAD_COLUMNS,
    RATING_COLUMNS,
    TISSUES,
    WHO_COLUMNS,
    Column,
    names,
    scan_columns,
)
from sctseg7t.measure.flags import NOT_AVERAGED
from sctseg7t.text import ranges

_OURS = {"sub": "participant_id", "ses": "session_id", "run": "run"}
# Which of a scan's own tables each is put together from.
_PARTS = {
    "cohort_slices": "csa",
    "cohort_levels": "levels",
    "cohort_lesions": "lesions",
    "cohort_newlesions": "newlesions",
    "cohort_lesionchanges": "changes",
}
# What a row of a scan's own table has that the cohort's says otherwise.
_OWN = ("filename", "tool_version")
_WORDS = {"csa": "area table", "lesions": "lesion table", "load": "table of lesion load"}


def write_tables(
    out: str | Path,
    *,
    paths: Sequence[str | Path] | None = None,
    participants: str | Path | None = None,
    root: str | Path | None = None,
    ratings: Sequence[Mapping[str, Any]] = (),
) -> tuple[list[Path], list[str]]:
    """Write ``cohort_scans.csv``, a dictionary, and the tables of slices, levels, lesions, new lesions and changes.

    UTF-8, comma, LF, one header line, empty cells for what is not known. Scans are read one by one, so that
    memory does not grow with the cohort. Of all but the first two those are written of which any scan has
    the table; one of an earlier run is removed.

    Parameters
    ----------
    out : path
        Folder of the records and of the tables.
    paths : sequence of path, optional
        Sidecars to use (default: all below `out`); those that do not exist are left out.
    participants : path, optional
        A participants.tsv whose columns are joined in.
    root : path, optional
        Of the data set, whose subjects' sessions.tsv are joined in.
    ratings : sequence of dict
        As :func:`sctseg7t.qc.ratings.read_ratings` gives them, of one rater or several. Those of masks that have
        changed since are left out.

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
    entities: dict[str, Column] = {}
    subjects, kinds, parts, missing = set(), set(), set(), {}
    for record in map(read_record, paths):
        # In the order of BIDS names; the suffix tells scans of different kinds apart.
        for name in record.entities:
            if name not in (*_OURS, "suffix"):
                entities[name] = Column(name, description=f"as in the scan's name: {name}-")
        subjects.add(record.entities.get("sub", ""))
        parts.update(part for part in _PARTS.values() if record.table(part))
        if record.table("followup"):
            kinds.add("followup")
        if record.kind:
            kinds.add(record.kind)
            for part in TABLES_OF[record.kind]:
                path = record.table(part)
                if not (path and path.is_file()):
                    missing.setdefault(part, []).append(record.name)
    columns = {table: COHORT_TABLES[table] for table, part in _PARTS.items() if part in parts}
    columns["cohort_scans"] = scan_columns(kinds or {CORD})
    taken = {*entities, *(name for own in COHORT_TABLES.values() for name in names(own))}
    people = read_participants(participants, taken) if participants else Participants({}, {}, {})
    taken |= set(people.columns)
    sessions = read_sessions(root, sorted(subjects), taken) if root else Sessions({}, {}, {})
    joined = [
        Column(ours, description=found.descriptions.get(theirs) or f"column {theirs} of {name}.tsv")
        for name, found in (("participants", people), ("sessions", sessions))
        for ours, theirs in found.columns.items()
    ]
    rated, stale = _by_scan(ratings, paths)
    joined += RATING_COLUMNS if ratings else ()
    who = _Who(people, sessions, rated)
    files, described = [], []
    for table, own in columns.items():
        first = len(WHO_COLUMNS)
        header = [*own[:first], *entities.values(), *own[first:], *joined]
        files.append(write_csv(out / f"{table}.csv", header, _all_rows(paths, _PARTS.get(table), own, who)))
        described += [
            {"table": f"{table}.csv", "column": c.name, "unit": c.unit, "description": c.description} for c in header
        ]
    for table in _PARTS.keys() - columns.keys():
        (out / f"{table}.csv").unlink(missing_ok=True)
    files.append(write_csv(out / "cohort_dictionary.csv", DICTIONARY_COLUMNS, described))
    notes = [
        f"no {_WORDS[part]} beside the masks of {some(scans)}; segment these scans again"
        for part, scans in missing.items()
    ]
    if participants:
        strangers = [f"sub-{subject}" for subject in sorted(subjects) if subject and subject not in people.rows]
        if strangers:
            notes.append(f"{participants}: no row for {some(strangers)}; their cells are empty")
        if people.doubles:
            twice = some([f"sub-{subject}" for subject in people.doubles])
            notes.append(f"{participants}: has rows that differ for {twice}; their cells are empty: keep one row each")
        unseen = [f"sub-{subject}" for subject in people.rows if subject not in subjects]
        if unseen:
            notes.append(f"{participants}: no scan in the tables of {some(unseen)}")
        renamed = [f"{theirs} is {ours}" for ours, theirs in people.columns.items() if ours != theirs]
        if renamed:
            notes.append(f"{participants}: names that the tables use themselves: {', '.join(renamed)}")
    if stale:
        notes.append(f"ratings of {some(stale)} are of masks that have changed since; rate them again")
    unknown = sorted({str(row["scan"]) for row in ratings} - {record.name for record in map(read_record, paths)})
    if unknown:
        notes.append(f"ratings of {some(unknown)}: no such scan in the tables")
    return files, notes


@dataclass(frozen=True)
class _Who:
    """What is known about a scan from beside its masks."""

    people: Participants
    sessions: Sessions
    rated: Mapping[str, Mapping[str, str]]

    def of(self, record: Record) -> dict[str, str]:
        subject, session = (record.entities.get(key, "") for key in ("sub", "ses"))
        return {**self.people.of(subject), **self.sessions.of(subject, session), **self.rated.get(record.name, {})}


def _by_scan(
    ratings: Sequence[Mapping[str, Any]], paths: Iterable[Path]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Cells of ratings by scan, several raters' joined by ;, and the scans whose ratings are of other masks."""
    found, stale = {}, []
    hashes = {record.name: record.rating_hash for record in map(read_record, paths)} if ratings else {}
    for row in sorted(ratings, key=lambda row: (row["rater"], row["time"])):
        if not (row["verdict"] or row["rating"]):
            continue
        if row["hash"] and row["hash"] != hashes.get(row["scan"], row["hash"]):
            stale.append(row["scan"])
        else:
            # Of two ratings of one rater the later counts.
            found.setdefault(row["scan"], {})[row["rater"]] = row
    cells = {
        scan: {
            "verdict": ";".join(row["verdict"] or "" for row in by.values()),
            "grade": ";".join(str(row["rating"] or "") for row in by.values()),
            "rater": ";".join(by),
        }
        for scan, by in found.items()
    }
    return cells, list(dict.fromkeys(stale))


def _all_rows(
    paths: Iterable[Path], part: str | None, columns: Sequence[Column], who: _Who
) -> Iterator[dict[str, Any]]:
    """Rows of one table of all records: those of a part (csa, levels, lesions), or one a scan."""
    for record in map(read_record, paths):
        # As BIDS writes them: text, also for those who read 01 as a number.
        entities = {_OURS.get(key, key): f"{key}-{value}" for key, value in record.entities.items() if key != "suffix"}
        common = {**who.of(record), **entities, "scan": record.name}
        path = record.table(part) if part else None
        for row in read_csv(path) if part else [_scan_row(record)]:
            row.pop("filename", None)
            if unknown := row.keys() - set(names(columns)):
                raise InputError(
                    f"{path}: has columns that this version does not know "
                    f"({', '.join(sorted(unknown))}); run the scan again, or use the version that wrote it"
                )
            yield {**row, **common}


def _scan_row(record: Record) -> dict[str, Any]:
    raw = record.raw
    model = raw.get("model", {})
    warnings = raw.get("warnings", [])
    return {
        "status": record.status,
        "error_kind": record.error_kind,
        "error": record.error,
        **(_load(record) if record.kind == BRAIN else summary(read_csv(record.table("csa")))),
        "corrected": tuple(sorted(recorded(raw))),
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
    content = {name: row.get(name) for name in names(LOAD_COLUMNS) if name not in _OWN}
    flags = (lesion["flags"].split(";") for lesion in read_csv(record.table("lesions")))
    content["flags"] = _counted(flag for own in flags for flag in own if flag)
    volume = (record.raw.get("brain") or {}).get("brain_ml")
    content |= {"brain_volume_ml": volume if volume is None else float(volume)}
    change = next(iter(read_csv(record.table("followup"))), {})
    return content | {name: change.get(name) for name in names(FOLLOWUP_COLUMNS) if name in change and name not in _OWN}


def _counted(flags: Iterable[str]) -> str:
    return ";".join(f"{flag}:{count}" for flag, count in sorted(Counter(flags).items()))


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
    slices: dict[tuple[str, str], dict[str, Mapping[str, str]]] = {}
    flags: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        place = row["volume"], row["slice"]
        slices.setdefault(place, {})[row["tissue"]] = row
        flags.setdefault(place, set()).update(filter(None, row["flags"].split(";")))
    if not slices:
        return {}
    kept = [tissues for place, tissues in slices.items() if not flags[place] & NOT_AVERAGED]
    content = {
        "n_slices": len(slices),
        # The row of SC, or of the only tissue, says whether a slice was measured.
        "n_averaged": sum(
            any(row["area_mm2"] for name, row in tissues.items() if name == "SC" or "SC" not in tissues)
            for tissues in kept
        ),
        "n_flagged": sum(map(bool, flags.values())),
        "flags": _counted(flag for found in flags.values() for flag in found),
        "left_out": _left_out(flags),
    }
    for tissue in TISSUES:
        for name in (column.name for column in CSA_MEASURES if column.averaged):
            values = [float(t[tissue][name]) for t in kept if tissue in t and t[tissue].get(name)]
            if values:
                stem = f"{tissue.lower()}_{name}"
                content[f"{stem}_mean"] = sum(values) / len(values)
                content |= {f"{stem}_min": min(values), f"{stem}_max": max(values)}
    both = [t for t in kept if {"SC", "GM"} <= set(t) and t["GM"]["area_mm2"] and t["SC"]["area_mm2"]]
    gm, sc = (sum(float(t[tissue]["area_mm2"]) for t in both) for tissue in ("GM", "SC"))
    if sc > 0:
        content["gm_sc_area_ratio"] = gm / sc
    for column in IMAGE_MEASURES:
        values = [float(t["GM"][column.name]) for t in kept if t.get("GM", {}).get(column.name)]
        if values:
            content[f"{column.name}_mean"] = sum(values) / len(values)
    return content


def _left_out(flags: Mapping[tuple[str, str], set[str]]) -> str:
    """Slices that enter no mean, by flag and volume: ``past_cord_end:20-21``."""
    found: dict[tuple[str, str], list[int]] = {}
    for (volume, number), own in flags.items():
        for flag in own & NOT_AVERAGED:
            found.setdefault((flag, volume), []).append(int(number))
    return ";".join(
        f"{flag}:{ranges(sorted(slices))}" + (f" of volume {volume}" if volume else "")
        for (flag, volume), slices in sorted(found.items())
    )

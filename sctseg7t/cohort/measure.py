"""The way from masks that exist to their tables, of one scan or of a folder."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sctseg7t.cohort.mask_sets import MaskSet
from sctseg7t.cord.mask_files import ROLES, measure_masks
from sctseg7t.cord.measuring import EMPTY, OF_THE_RUN, write_tables
from sctseg7t.errors import InputError, OutputError
from sctseg7t.files import read_csv, write_json
from sctseg7t.inference import outputs
from sctseg7t.inference.corrections import entry, of_record
from sctseg7t.inference.outputs import MEASURE_SIDECAR, TABLES, Plan, sct_tables
from sctseg7t.inference.record import FAILED, NOTHING_FOUND, OK, common, failure, file_hashes, place_record
from sctseg7t.inference.roles import SCAN
from sctseg7t.inference.scan_run import Outcome, explain
from sctseg7t.measure.columns import TISSUES
from sctseg7t.measure.csa import CsaTable
from sctseg7t.measure.normalise import Normalisation
from sctseg7t.measure.sct_tables import PER, write_sct_csv

# Flags of a run's table that are not found again from the masks.
_KEPT = (*OF_THE_RUN, "voxels_missing")


@dataclass(frozen=True)
class Choice:
    """What of the slices is wanted, and in what form.

    Attributes
    ----------
    slices, levels : tuple of int or None
        Only these slices, and these vertebral levels.
    exclude : tuple of str
        Flags: slices with one of them are in no mean.
    csa_format : {"tidy", "sct"}
    per : {"slice", "level", "all"}
        Rows of the tables in SCT's columns.
    normalise : Normalisation or None
        Of areas.
    """

    slices: tuple[int, ...] | None = None
    levels: tuple[int, ...] | None = None
    exclude: tuple[str, ...] = ()
    csa_format: str = "tidy"
    per: str = "all"
    normalise: Normalisation | None = None


def plan_in(one: MaskSet, out: Path, choice: Choice) -> Plan:
    """Where the tables of a scan go in a folder of outputs."""
    place = out / one.stem.parent
    tables = {kind: place / (one.stem.name + TABLES[kind]) for kind in ("csa", "levels")}
    return _plan(one, tables, place / (one.stem.name + MEASURE_SIDECAR), choice)


def plan_at(one: MaskSet, table: Path, choice: Choice) -> Plan:
    """Where the tables of a single scan go: a table that is named, and others named after it."""
    stem = table.with_suffix("") if table.suffix.lower() == ".csv" else table
    sidecar = stem.with_name(stem.name + MEASURE_SIDECAR)
    if choice.csa_format == "sct":
        # As sct_process_segmentation -o has it: the file itself, where there is one mask only.
        paths = {f"{choice.per}:{t}": stem.with_name(f"{stem.name}_{t}.csv") for t in one.masks}
        if len(paths) == 1:
            paths = dict.fromkeys(paths, stem.with_name(stem.name + ".csv"))
        return Plan({SCAN: _source(one), **one.files}, {}, paths, sidecar)
    tables = {"csa": stem.with_name(stem.name + ".csv"), "levels": stem.with_name(stem.name + "_perlevel.csv")}
    return _plan(one, tables, sidecar, choice)


def _plan(one: MaskSet, tables: dict[str, Path], sidecar: Path, choice: Choice) -> Plan:
    if choice.csa_format == "sct":
        tables = tables | sct_tables(tables, {t: sidecar.with_name(path.name) for t, path in one.masks.items()})
    return Plan({SCAN: _source(one), **one.files}, {}, tables, sidecar)


def _source(one: MaskSet) -> Path:
    known = one.image or next(iter(one.masks.values()), None)
    return known or (one.record.image if one.record else one.stem)


def measure_to_files(one: MaskSet, plan: Plan, choice: Choice) -> Outcome:
    """Measure the masks of one scan and write their tables and a record: all of them, or none.

    What is wrong with its files is the scan's outcome, not an error: a folder goes on. A scan that cannot be measured
    leaves a record that says why.
    """
    try:
        outputs.check_folder(plan)
        if one.problem:
            raise InputError(one.problem)
        return _measure(one, plan, choice)
    except OutputError:
        raise
    except Exception as err:  # noqa: BLE001
        return _failed(one, plan, *explain(err, plan))


def _failed(one: MaskSet, plan: Plan, error: object, kind: str) -> Outcome:
    content = failure(plan, error, kind) | _about(one)
    with contextlib.suppress(OSError):
        write_json(plan.sidecar, content)
        outputs.remove(plan.tables.values())
    return Outcome(FAILED, content["error"], kind)


def _measure(one: MaskSet, plan: Plan, choice: Choice) -> Outcome:
    drawn = of_record(one.record) if one.record else {}
    corrected = {tissue: correction.path for tissue, correction in drawn.items() if tissue in TISSUES}
    masks = {**one.masks, **corrected}
    found = measure_masks(
        {tissue: (path, one.labels.get(tissue, ())) for tissue, path in masks.items()},
        image=one.image,
        corrected=tuple(corrected),
        flags=_known_flags(one) if "SC" not in corrected else (),
        **{role: path for role, path in one.files.items() if role in ROLES},
    )
    tables = [table.part(choice.slices, choice.levels, choice.exclude) for table in found.tables]
    if choice.normalise:
        tables = _normalised(tables, one, choice, found.warnings)
    if not any(table.rows for table in tables):
        raise InputError(f"{_source(one)}: none of its slices is of the slices or levels that are asked for")
    empty = not any(row.area_mm2 for table in tables for row in table.rows)
    content = {
        "status": NOTHING_FOUND if empty else OK,
        **({"error": f"{_source(one)}: {EMPTY}"} if empty else {}),
        **common(plan),
        **_about(one),
        "outputs": {t: {**place_record(plan, path), "sha256": found.sha256.get(t)} for t, path in masks.items()},
        "corrections": entry(plan, {tissue: drawn[tissue] for tissue in corrected}, found.cut),
        "options": {name: value for name, value in vars(choice).items() if name != "normalise"}
        | ({"normalise": choice.normalise.of(_participant(one))} if choice.normalise else {}),
        "warnings": [*(drawn[tissue].words() for tissue in corrected), *found.warnings],
    }

    def make(staged: Plan) -> None:
        _write(tables if len(tables) > 1 else tables[0], staged, one, choice, masks, tuple(sorted(corrected)))
        made = [path for path in staged.files() if path.exists()]
        write_json(staged.sidecar, {**content, "files": file_hashes(made)})

    outputs.write(plan, make)
    return Outcome(content["status"], content.get("error"), None, tuple(content["warnings"]))


def _write(
    tables: Any, plan: Plan, one: MaskSet, choice: Choice, masks: Mapping[str, Path], corrected: tuple[str, ...]
) -> None:
    own = {kind: path for kind, path in plan.tables.items() if kind in TABLES}
    write_tables(tables, own, filename=str(_source(one)), masks=masks, corrected=corrected)
    for kind, path in plan.tables.items():
        per, _, tissue = kind.partition(":")
        if tissue:
            mask = str(masks[tissue].absolute())
            write_sct_csv(tables, path, tissue, filename=mask, per=PER.get(per, per), levels=choice.levels or ())


def _participant(one: MaskSet) -> str:
    return f"sub-{one.entities['sub']}" if "sub" in one.entities else ""


def _normalised(tables: list[CsaTable], one: MaskSet, choice: Choice, warnings: list[str]) -> list[CsaTable]:
    """Tables with normalised areas; as they are, with a warning, where the person's predictors are not known."""
    found = [
        table for each in tables if choice.normalise and (table := choice.normalise.apply(each, _participant(one)))
    ]
    if found:
        return found
    text = f"{_participant(one) or one.name}: predictors for normalised areas are not known"
    if choice.csa_format == "sct":
        # There the normalised area has the name of the other.
        raise InputError(f"{text}; add them to the table")
    warnings.append(f"{text}; they are left empty")
    return tables


def _about(one: MaskSet) -> dict[str, Any]:
    return {"name": one.name, "entities": dict(one.entities)}


def _known_flags(one: MaskSet) -> Sequence[Sequence[Sequence[str]]]:
    """Doubts of the run that made the masks, by volume and slice."""
    volumes: dict[int, dict[int, Sequence[str]]] = {}
    for row in read_csv(one.record.table("csa") if one.record else None):
        flags = [flag for flag in row["flags"].split(";") if flag in _KEPT]
        volumes.setdefault(int(row["volume"] or 0), {}).setdefault(int(row["slice"]), flags)
    return [_listed(volumes.get(t, {})) for t in range(max(volumes, default=-1) + 1)]


def _listed(slices: Mapping[int, Sequence[str]]) -> list[Sequence[str]]:
    return [slices.get(k, ()) for k in range(max(slices, default=-1) + 1)]

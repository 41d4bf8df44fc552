"""From a study's file and a data set to its cells: who is split how, what each cell learns from, what is done."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sctseg7t.errors import InputError, UserError
from sctseg7t.files import write_json
from sctseg7t.simulate.recipe_file import merged, read_recipe_file
from sctseg7t.study.cell_run import CellWork, key_of
from sctseg7t.study.config import AXES, Cell, Study
from sctseg7t.study.people import make_splits, of_patients, strata_of
from sctseg7t.train.recipe import RECIPES
from sctseg7t.train.scans.labelled import LabelledScan, find_scans, label_map
from sctseg7t.train.scans.splits import Split, write_splits

# Axes that are fields of the training recipe.
_OF_RECIPE = ("strategy", "network", "augmentation", "seed")


@dataclass(frozen=True)
class Machine:
    """Where and how the trainings run."""

    device: str = "cpu"
    precision: str = "auto"
    threads: int | None = None
    timeout: float | None = None


def plan(
    study: Study,
    scans: Sequence[LabelledScan],
    others: Mapping[str, Sequence[LabelledScan]],
    out: str | Path,
    *,
    groups: Mapping[str, str] | None = None,
    machine: Machine = Machine(),
    data: Sequence[str] = (),
) -> tuple[list[CellWork], list[CellWork]]:
    """What trainings start from, and every cell of a study, as work for an engine, done or not.

    The splits are written down.

    Parameters
    ----------
    study : Study
    scans : sequence of LabelledScan
        The data set.
    others : dict of str to sequence of LabelledScan
        Sets that every cell is measured on too, such as scans of another site. Nobody in them is in the data set.
    out : path
        Folder of the study.
    groups : dict of str to str, optional
        By subject: what splits are stratified by.
    machine : Machine
    data : sequence of str
        Folders of anatomy, for sources that simulate.

    Raises
    ------
    InputError
        Too few people, or somebody of another set is in the data set.
    """
    out = Path(out).absolute()
    _check_others(scans, others)
    cells = study.cells
    wanted = 1 + max(int(cell.values["split"]) for cell in cells)
    splits = make_splits(study.splits, strata_of(scans, groups or {}), wanted)
    out.mkdir(parents=True, exist_ok=True)
    write_splits(out / "splits.json", splits)
    write_json(out / "study.json", asdict(study))
    digests = _digests([*scans, *(scan for some in others.values() for scan in some)])
    common = {
        "scans": tuple(scans),
        "others": {name: tuple(some) for name, some in others.items()},
        "run_id": secrets.token_hex(6),
        "data": tuple(data),
        **vars(machine),
    }
    recipe = _values(study.recipe)
    sources = {name: _source(name, told, study, recipe, out, common) for name, told in study.sources.items()}
    works = [_work(cell, recipe, splits, out, common, digests, sources, study) for cell in cells]
    # What is not trained takes seconds, and is what the rest is judged by.
    return list(sources.values()), [*_of_models(study, cells, recipe, splits, out, common, digests), *works]


def find(study: Study, given: Sequence[str | Path], subject: str | None = None) -> list[LabelledScan]:
    """Labelled scans that a study's recipe can use: it says what masks are called."""
    recipe = _values(study.recipe)
    return find_scans(given, label_map(recipe.get("labels", {})), recipe.get("images") or {}, subject)


def recipe_of(recipe: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The training recipe of a cell: the study's, with the values of its axes."""
    made = dict(recipe)
    for axis in _OF_RECIPE:
        if axis in values and values[axis] is not None:
            made[axis] = {"kind": values[axis]} if axis == "network" and isinstance(values[axis], str) else values[axis]
    if values.get("classes"):
        missing = [name for name in values["classes"] if name not in recipe.get("labels", {})]
        if missing:
            raise InputError(f"classes {'+'.join(values['classes'])}: the study's recipe has no label {missing[0]}")
        made["labels"] = {name: recipe["labels"][name] for name in values["classes"]}
    return made


def _values(recipe: Any) -> dict[str, Any]:
    """What a study's recipe says: a name, or an object that may have a base."""
    if isinstance(recipe, str):
        return read_recipe_file(recipe, RECIPES)[1]
    own = dict(recipe)
    base = own.pop("base", None)
    return merged(read_recipe_file(base, RECIPES)[1] if base else {}, own)


def _source(
    name: str, told: Mapping[str, Any], study: Study, recipe: Mapping[str, Any], out: Path, common: dict[str, Any]
) -> CellWork:
    """A training that others start from; all its people are trained on."""
    made = merged(recipe, told["recipe"]) if isinstance(told["recipe"], Mapping) else _values(told["recipe"])
    scans = find_scans(told.get("scans", ()), label_map(made.get("labels", {}))) if told.get("scans") else []
    people = tuple(sorted({scan.subject for scan in scans}))
    key = key_of({"recipe": made, "scans": _digests(scans)})
    own = {**common, "scans": tuple(scans), "others": {}}
    cell = Cell({"start": name}, {**AXES, "start": name})
    folder = out / "sources" / name
    return CellWork(cell, folder, made, Split(name, people), key=key, measured=False, tags={"method": name}, **own)


def _work(
    cell: Cell,
    recipe: Mapping[str, Any],
    splits: Sequence[Split],
    out: Path,
    common: dict[str, Any],
    digests: Mapping[str, Any],
    sources: Mapping[str, CellWork],
    study: Study,
) -> CellWork:
    split, reason, made = splits[int(cell.values["split"])], "", {}
    try:
        split = of_patients(split, cell.values["patients"])
        made = recipe_of(recipe, cell.values)
    except UserError as err:
        reason = str(err)
    start = cell.values["start"]
    source = sources.get(f"{start}")
    told = {
        "recipe": made,
        "split": split.digest(),
        "start": source.key if source else start,
        "scans": {name: digests[name] for name in sorted(digests)},
    }
    return CellWork(
        cell=cell,
        folder=out / "cells" / cell.name,
        recipe=made,
        split=split,
        start=str(source.folder) if source else start,
        key=key_of(told),
        reason=reason,
        labels=tuple(made.get("labels", ())),
        rules=recipe.get("labels", {}),
        tags={**cell.labels, "method": study.method_of(cell)},
        **common,
    )


def _of_models(study, cells, recipe, splits, out, common, digests) -> list[CellWork]:
    """Models that are not trained, measured on the test part of every split."""
    works = []
    for name, models in study.models.items():
        for place in sorted({int(cell.values["split"]) for cell in cells}):
            cell = Cell({"method": name, "split": str(place)}, {**AXES, "split": place, "models": models})
            told = {"models": models, "split": splits[place].digest(), "scans": digests}
            works.append(
                CellWork(
                    cell=cell,
                    folder=out / "cells" / cell.name,
                    recipe={},
                    models=tuple(models),
                    split=splits[place],
                    key=key_of(told),
                    labels=tuple(recipe.get("labels", ())),
                    rules=recipe.get("labels", {}),
                    tags={"split": str(place), "method": name},
                    **common,
                )
            )
    return works


def _check_others(scans: Sequence[LabelledScan], others: Mapping[str, Sequence[LabelledScan]]) -> None:
    people = {scan.subject for scan in scans}
    for name, some in others.items():
        both = sorted({scan.subject for scan in some} & people - {""})
        if both:
            raise InputError(
                f"{name}: {', '.join(both)} is also in the data set that is trained on; "
                "a set to measure on has other people"
            )


def _digests(scans: Sequence[LabelledScan]) -> dict[str, Any]:
    """What every file of the scans holds."""
    return {str(scan.image): scan.digests() for scan in scans}

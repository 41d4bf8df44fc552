"""What the cells of a study have found, put together: one row a cell, one long table, one comparison a set of scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sctseg7t.compare.types import COLUMNS, LESION, REFERENCE, Case, Comparison, Settings
from sctseg7t.files import read_json, write_csv
from sctseg7t.study.cell_run import OK, RECORD, TEST, CellWork, read_values
from sctseg7t.study.config import AXES
from sctseg7t.study.people import ALL

if TYPE_CHECKING:
    from sctseg7t.study.config import Study

TO_DO = "to do"
CELLS_CSV, LONG_CSV = "cells.csv", "study_long.csv"
# Between a scan's name and the training that it was measured for.
_OF = " @ "
_RECORDED = ("seconds_training", "seconds", "cpu_seconds", "steps", "parameters", "trainable", "best_step")


@dataclass(frozen=True, eq=False)
class Collected:
    """Everything that the cells of a study have found so far.

    Attributes
    ----------
    cells : DataFrame
        A row a cell: ``cell``, ``method``, a column an axis, ``status`` (ok, failed, to do), ``reason`` of a failure,
        what the record tells of the training, and ``dice_SET_STRUCTURE``, the mean over slices (of lesions over
        scans), failures counted as 0.
    values : DataFrame
        The long table: ``cell``, ``method``, axes, ``set``, and the columns of the comparison's.
    """

    cells: pd.DataFrame
    values: pd.DataFrame

    @property
    def sets(self) -> list[str]:
        """Names of the sets of scans, the test part first."""
        return sorted(self.values["set"].unique(), key=lambda name: (name != TEST, name))

    def patients(self) -> list[Any]:
        """Numbers of training people, growing; ``all`` is the largest."""
        return sorted(self.cells.patients.unique(), key=_amount)


def collect(works: Sequence[CellWork]) -> Collected:
    """Read what is there of every cell."""
    cells, parts = [], []
    for work in works:
        record = read_json(work.folder / RECORD)
        state = work.state()
        about = {"cell": work.name, "method": work.tags.get("method", "")}
        about |= {axis: work.tags.get(axis, "") for axis in AXES}
        if work.models:
            # Not trained: they stand beside every number of patients and every seed.
            about |= {"patients": ALL, "seed": ""}
        about["patients"] = about["patients"] or ALL
        row = about | {"status": state if state != "to do" else TO_DO, "reason": record.get("reason", "")}
        if state == OK:
            row |= {name: record[name] for name in _RECORDED if name in record}
            table = _numbers(pd.DataFrame(read_values(work.folder)))
            if work.models:
                # What they do not segment is not missed.
                found = table[(table.metric == "dice") & (table.value > 0)].structure.unique()
                table = table[table.structure.isin(found)]
            parts.append(table.drop(columns=["method"]).assign(**about))
            row |= _means(table)
        cells.append(row)
    columns = [*dict.fromkeys(["cell", "method", *AXES, "set", *COLUMNS])]
    values = pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
    return Collected(pd.DataFrame(cells), values)


def write(collected: Collected, out: Path) -> list[Path]:
    """Write the two tables."""
    files = []
    for name, table in ((CELLS_CSV, collected.cells), (LONG_CSV, collected.values)):
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        files.append(write_csv(out / name, list(table.columns), rows, digits=6))
    return files


def comparison(collected: Collected, of: str, study: Study, patients: Any = None) -> Comparison:
    """The methods of a study compared on one set of scans.

    A scan counts once for every training that it was measured for: its rows stand apart by split and seed, and belong
    to one person.

    Parameters
    ----------
    collected : Collected
    of : str
        Name of the set.
    study : Study
    patients : int or str, optional
        Only trainings on so many people; default: on the most.
    """
    from sctseg7t.compare.compare import analyse

    amount = collected.patients()[-1] if patients is None else patients
    values = collected.values
    values = values[(values["set"] == of) & ((values.patients == amount) | (values.seed == ""))]
    values = values.assign(case=values.case + _OF + values.split + "." + values.seed)
    methods = order_of_methods(study, values.method.unique())
    # What is measured of one mask alone stands for the method too.
    values = values.assign(against=values.against.fillna(""), subject=values.subject.astype(str))
    people = dict(zip(values.case, values.subject))
    cases = [Case(name, person) for name, person in people.items()]
    reference = values[values.method == REFERENCE]
    return analyse(pd.concat([values, reference])[COLUMNS], cases, methods, REFERENCE, Settings(partial=True))


def order_of_methods(study: Study, found: Sequence[str]) -> list[str]:
    """Methods in the order of the study's file, models that were not trained first."""
    known = [*study.models, *dict.fromkeys(study.method_of(cell) for cell in study.cells)]
    return [name for name in known if name in set(found)]


def rows_of(compared: Comparison, structure: str) -> pd.DataFrame:
    """What is summed up of a structure: slices, of lesions scans; with columns ``scan``, ``split``, ``seed``."""
    rows = compared.lesion_rows if structure == LESION else compared.slices(structure)
    rows = rows[rows.against == REFERENCE]
    if structure == LESION:
        # Where there is nothing to find, finding nothing is right, and anything else is wrong.
        dice = rows.dice.fillna(pd.Series(np.where(rows["empty"] == "both", 1.0, 0.0), rows.index))
        rows = rows.assign(outlier="", dice=dice, size_method=rows.load_method_ml, size_against=rows.load_against_ml)
    parts = rows.case.str.rsplit(_OF, n=1, expand=True)
    run = parts[1].str.split(".", n=1, expand=True)
    return rows.assign(scan=parts[0], split=run[0], seed=run[1])


def _means(values: pd.DataFrame) -> dict[str, float]:
    """Mean Dice of each set and structure."""
    level = np.where(values.structure == LESION, "scan", "slice")
    dice = values[(values.metric == "dice") & (values.level == level) & (values.against == REFERENCE)]
    return {f"dice_{of}_{name}": float(v) for (of, name), v in dice.groupby(["set", "structure"]).value.mean().items()}


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Text as read, with numbers where there are some."""
    index = pd.to_numeric(table["index"], errors="coerce").astype("Int64")
    return table.assign(index=index, value=pd.to_numeric(table.value), against=table.against.fillna(""))


def _amount(patients: Any) -> float:
    return float("inf") if patients == ALL else float(patients)


def states(cells: pd.DataFrame) -> Mapping[str, int]:
    """How many cells are ok, failed and to do."""
    return {str(name): int(count) for name, count in cells.status.value_counts().items()}

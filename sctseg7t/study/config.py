"""A study as its file says it: which trainings it is made of."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sctseg7t.simulate.recipe_file import check_values, read_recipe_file

STUDIES = Path(__file__).parent / "studies"
_SCHEMA = Path(__file__).parent / "assets/study.schema.json"
# In the order of tables and names of folders. What a grid does not say of an axis:
AXES: dict[str, Any] = {
    "strategy": "scratch",
    "network": None,
    "augmentation": "none",
    "classes": None,
    "start": None,
    "patients": "all",
    "split": 0,
    "seed": 0,
}
# Who is tested, and by which chance: over these the numbers of a method are put together.
REPEATS = ("split", "seed")


@dataclass(frozen=True)
class Cell:
    """One training of a study.

    Attributes
    ----------
    labels : dict of str to str
        What tables call its value on each axis; axes that its grid does not name are left out.
    values : dict of str to object
        Its value on every axis.
    """

    labels: Mapping[str, str]
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its folder: the values of its axes, and a few digits that tell apart what is written alike."""
        told = "_".join(re.sub(r"[^\w+.-]+", "-", value) for value in self.labels.values())
        digest = hashlib.sha256(json.dumps([self.labels, self.values], sort_keys=True).encode()).hexdigest()
        return f"{told[:100]}_{digest[:6]}"

    def label(self, axis: str) -> str:
        """What tables call its value on an axis; "" where the study does not vary it."""
        return self.labels.get(axis, "")


@dataclass(frozen=True)
class Study:
    """A study's file.

    Attributes
    ----------
    name, title, about : str
    recipe : str or dict
        Training recipe: its name, or an object with a ``base``.
    grids : list of dict
        Axes and their values: a list, or an object of values by what tables call them. A study has the cells of all
        its grids.
    method : list of str
        Axes that make up what is compared.
    splits : dict
        ``shares`` of training, validation and test, or ``folds`` (a number, or ``each`` person).
    baseline : list of str
        Methods that others are told against: each against the one whose name begins most like its own, and a baseline
        against the first.
    models : dict of str to list of str
        Networks that are not trained but measured on the same scans: models of the zoo by method.
    sources : dict of str to dict
        Trainings that others start from, by the name that the axis ``start`` calls them: ``recipe`` and ``scans``.
    labels : dict
        What the masks of labels are called, as in a training recipe.
    published : dict
        ``source``, ``findings`` and ``rows`` of a publication, to stand beside ours.
    """

    name: str
    recipe: Any
    grids: list[dict[str, Any]]
    method: list[str]
    title: str = ""
    about: str = ""
    splits: dict[str, Any] = field(default_factory=dict)
    baseline: list[str] = field(default_factory=list)
    models: dict[str, list[str]] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    published: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def cells(self) -> list[Cell]:
        """Every training, those of one split and seed together; none twice."""
        found = {cell.name: cell for grid in self.grids for cell in _cells(grid)}
        return sorted(found.values(), key=lambda cell: [_place(cell.values[axis]) for axis in REPEATS])

    def method_of(self, cell: Cell) -> str:
        """What a cell is called where methods are compared."""
        parts = [cell.label(axis) for axis in self.method]
        if "classes" in self.varied:
            parts.append("single-class" if len(cell.values["classes"] or ()) == 1 else "multi-class")
        return ", ".join(part for part in parts if part)

    @functools.cached_property
    def varied(self) -> set[str]:
        """Axes on which the study has several values."""
        return {axis for axis in AXES if len({json.dumps(c.values[axis], sort_keys=True) for c in self.cells}) > 1}


def read_study(name: str | Path) -> Study:
    """Read a study.

    Parameters
    ----------
    name : str or path
        A JSON file, or the name of a shipped study. It may name a ``base``: :mod:`sctseg7t.simulate.recipe_file`.

    Raises
    ------
    InputError
        No such study, an unreadable file, or an unknown, missing or impossible value in it.
    """
    shipped = STUDIES / f"{name}.json"
    path, values = read_recipe_file(shipped if shipped.is_file() else name, STUDIES)
    check_values(values, _SCHEMA, path)
    return Study(**values)


def _cells(grid: Mapping[str, Any]) -> Iterator[Cell]:
    axes = [axis for axis in AXES if axis in grid]
    for chosen in itertools.product(*(_named(grid[axis]) for axis in axes)):
        labels = {axis: label for axis, (label, _) in zip(axes, chosen)}
        yield Cell(labels, {**AXES, **{axis: value for axis, (_, value) in zip(axes, chosen)}})


def _named(values: Sequence[Any] | Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The values of an axis with what tables call them."""
    if isinstance(values, Mapping):
        return list(values.items())
    return [("+".join(value) if isinstance(value, list) else str(value), value) for value in values]


def _place(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, (int, float)) else (1, str(value))

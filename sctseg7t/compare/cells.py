"""What the report's tables are made of: numbers for people, rows of text, and what methods are called."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sctseg7t.compare.types import Comparison

if TYPE_CHECKING:
    import pandas as pd

# Not defined; not shown, for there are too few subjects.
NONE, WITHHELD = "-", "withheld"
COLOURS = 6


# --- numbers and words -----------------------------------------------------------------------


def number(value: float | None, how: str = ".2f") -> str:
    """A number for people: "-" where it is not defined, a real minus sign, never "−0.00".

    Parameters
    ----------
    value : float or None
    how : str
        A format specification; ``+`` shows the sign. ``p``: a p value, ``< 0.001`` below that.
    """
    if value is None or math.isnan(value):
        return NONE
    if how == "p":
        return "< 0.001" if value < 0.001 else f"{value:.3f}"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:{how}}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def count(n: int, thing: str) -> str:
    """``1 scan``, ``3 scans``."""
    plural = thing[:-1] + "ies" if thing.endswith("y") else thing + "s"
    return f"{n} {thing if n == 1 else plural}"


def listed(words: Iterable[object]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    words = [str(word) for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# --- tables ----------------------------------------------------------------------------------


class Best(str):
    """A cell that is better than all others by a test."""


@dataclass(frozen=True)
class Table:
    """Rows of text for people.

    Attributes
    ----------
    caption : str
    columns : tuple of str
    rows : tuple of tuple of str
    words : tuple of int
        Columns that hold words; the others hold numbers.
    note : str
        Below the table; "" for none. Shown where a cell is not defined, withheld or marked.
    cut : str
        How many rows of how many are shown; "" where all are.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)
    note: str = ""
    cut: str = ""

    @property
    def dashed(self) -> bool:
        """Whether any cell is not defined, withheld or marked."""
        return any(cell in (NONE, WITHHELD) or cell.endswith("*") for row in self.rows for cell in row)


# Header, what a row has there, and how it is shown: None for words, else a format specification. Two names with a
# blank between make an interval.
Column = tuple[str, str, str | None]


def make_table(
    caption: str,
    rows: pd.DataFrame | Sequence[Mapping[str, Any]],
    columns: Sequence[Column],
    note: str = "",
    most: int | None = None,
) -> Table:
    """A table of rows by name, of which at most so many are shown; columns of words that nobody has are left out."""
    shown = rows[:most]
    records = shown if isinstance(shown, Sequence) else shown.to_dict("records")
    empty = [k for k, (_, key, how) in enumerate(columns) if k and not how and _nobody_has(records, key)]
    columns = [column for k, column in enumerate(columns) if k not in empty]
    cells = tuple(tuple(cell(row, key, how) for _, key, how in columns) for row in records)
    cut = "" if len(shown) == len(rows) else f"The first {most} of {len(rows)} are shown; the CSV tables hold all."
    words = tuple(place for place, (_, _, how) in enumerate(columns) if how is None)
    return Table(caption, tuple(header for header, _, _ in columns), cells, words, note, cut)


def _nobody_has(records: Sequence[Mapping[str, Any]], key: str) -> bool:
    return bool(records) and all(key in row and row[key] in (None, "") for row in records)


def cell(row: Mapping[str, Any], key: str, how: str | None) -> str:
    if isinstance(row.get(key), str):
        return row[key]
    ends = [row[name] for name in key.split()]
    if isinstance(ends[0], str):
        return ends[0]
    found = [str(end or NONE) if how is None else number(end, how) for end in ends]
    return NONE if NONE in found else " to ".join(found)


# --- who is who ------------------------------------------------------------------------------


def pair_name(comparison: Comparison, method: str, against: str) -> str:
    """What a row of a table is called: the method, and without a reference what it is compared with."""
    return method if against == comparison.reference else f"{method} vs {against}"


def colour_of(comparison: Comparison, method: str) -> str:
    """Class of a method's colour, the same in all pictures: ``m0`` to ``m5``, or ``reference``."""
    if method == comparison.reference:
        return "reference"
    return f"m{comparison.methods.index(method) % COLOURS}"


def names_of_all(comparison: Comparison) -> list[str]:
    """The methods, and the reference if there is one."""
    return [*comparison.methods, *([comparison.reference] if comparison.reference else [])]


def others_of(comparison: Comparison) -> dict[str, str]:
    """What the two masks of a pair, and lesions of one alone, are called."""
    keys = ("mine", "own", "the_other", "other", "missed", "false")
    if comparison.reference:
        return dict(zip(keys, ("method", "Method's", "reference", "Reference's", "Missed", "False")))
    words = ("first method", "First's", "second method", "Second's", "Second alone", "First alone")
    return dict(zip(keys, words))


def named(comparison: Comparison, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with the name of their ``pair``, and the ``group`` of their scan if they have one."""
    groups = {case.name: case.group for case in comparison.cases}
    return [
        {**row, "pair": pair_name(comparison, row["method"], row["against"]), "group": groups.get(row.get("case", ""))}
        for row in rows.to_dict("records")
    ]


def pair_column(comparison: Comparison) -> Column:
    return "Method" if comparison.reference else "Methods", "pair", None

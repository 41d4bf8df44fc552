"""Areas normalised for what differs between people: by a factor, or by a linear model of predictors.

The model is that of sct_process_segmentation's ``-normalize``: ``area + sum of coefficient * (mean - own value)`` over
predictors such as sex and brain volume (Bedard & Cohen-Adad, Front Neuroimaging 2022). Its coefficients hold for one
tissue, level and contrast, so they are not shipped: a file says them, SCT's own (csa_normalization_models/*.csv) or
that of another regression.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sctseg7t.errors import UsageError
from sctseg7t.measure.csa import CsaTable
from sctseg7t.measure.level_means import level_means

FACTOR = "factor"
# SCT's name of a term that is a product.
_PRODUCTS = {"inter-BV_sex": ("brain-volume", "sex")}
_WORDS = {"f": 0.0, "female": 0.0, "m": 1.0, "male": 1.0}


@dataclass(frozen=True)
class Normalisation:
    """Predictors of people, and what is made of them.

    Attributes
    ----------
    people : dict of str to dict of str to float
        Predictors by participant_id; "" is anybody.
    terms : dict of str to (float, float)
        Coefficient and mean of each term of the model; none: areas are multiplied by the predictor ``factor``.
    """

    people: Mapping[str, Mapping[str, float]]
    terms: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def of(self, participant: str) -> tuple[float, float] | None:
        """Factor of a person's areas, and what is added to them, mm2; None if a predictor is not known."""
        known = self.people.get(participant, self.people.get(""))
        if known is None:
            return None
        if not self.terms:
            return (known[FACTOR], 0.0) if FACTOR in known else None
        shift = 0.0
        for term, (coefficient, mean) in self.terms.items():
            value = 1.0
            for name in _PRODUCTS.get(term, (term,)):
                if name not in known:
                    return None
                value *= known[name]
            shift += coefficient * (mean - value)
        return 1.0, shift

    def apply(self, table: CsaTable, participant: str) -> CsaTable | None:
        """A table with normalised areas: by a factor of every tissue, by a model of SC; None if they are not known."""
        found = self.of(participant)
        if found is None:
            return None
        factor, shift = found
        rows = tuple(
            replace(row, area_normalised_mm2=row.area_corrected_mm2 * factor + shift)
            if row.area_corrected_mm2 is not None and (row.tissue == "SC" or not self.terms)
            else row
            for row in table.rows
        )
        return CsaTable(rows, level_means(rows))


def read_normalisation(given: Sequence[str], model: str | Path | None = None) -> Normalisation:
    """Read predictors and a model.

    Parameters
    ----------
    given : sequence of str
        The path of a table (.tsv, .csv) with the predictors in columns and maybe ``participant_id``; or names and
        values in turn, as in ``sex 0 brain-volume 960606``. Sex is 0 or F, 1 or M; volumes are in mm3.
    model : path, optional
        Table of terms: name, ``coeff``, ``mean``.

    Raises
    ------
    UsageError
        A file or value cannot be used, or the predictors are not those of the model.
    """
    terms = _terms(Path(model)) if model else {}
    if len(given) == 1:
        people = _people(Path(given[0]))
    else:
        if len(given) % 2:
            raise UsageError(f"normalisation: {given[-1]} has no value; give names and values in turn, or a table")
        people = {"": {name: _number(value, name) for name, value in zip(given[::2], given[1::2])}}
    needed = {name for term in terms for name in _PRODUCTS.get(term, (term,))} or {FACTOR}
    known = {name for row in people.values() for name in row}
    if missing := sorted(needed - known):
        where = f"{model} needs" if model else "without a model areas are multiplied, which needs"
        raise UsageError(f"normalisation: {where} {', '.join(missing)}; there are {', '.join(sorted(known)) or 'none'}")
    return Normalisation(people, terms)


def _terms(path: Path) -> dict[str, tuple[float, float]]:
    rows, columns = _table(path)
    if not {"coeff", "mean"} <= set(columns):
        raise UsageError(f"{path}: has the columns {', '.join(columns)}; a model has a name, coeff and mean")
    return {row[columns[0]]: (_number(row["coeff"], path), _number(row["mean"], path)) for row in rows}


def _people(path: Path) -> dict[str, dict[str, float]]:
    rows, columns = _table(path)
    people: dict[str, dict[str, float]] = {}
    for row in rows:
        who = row.get("participant_id", "")
        if who in people:
            raise UsageError(f"{path}: has several rows of {who or 'anybody'}; keep one")
        values = {name: row[name].strip() for name in columns if name != "participant_id" and row[name]}
        people[who] = {
            name: number for name, text in values.items() if (number := _maybe_number(text, name)) is not None
        }
    return people


def _table(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            table = csv.DictReader(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", restval="")
            return list(table), list(table.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise UsageError(f"{path}: cannot be read ({getattr(err, 'strerror', None) or err}); check the path") from err


def _maybe_number(text: str, name: str) -> float | None:
    """A cell as a number; None where it is another kind of column."""
    if name == "sex" and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return float(text)
    except ValueError:
        return None


def _number(text: str, where: object) -> float:
    number = _maybe_number(text, str(where))
    if number is None:
        raise UsageError(f"{where}: {text!r} is no number; correct it")
    return number

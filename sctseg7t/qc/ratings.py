"""Ratings that QC pages export, and how far two raters agree."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sctseg7t.errors import InputError

VERDICTS = ("pass", "fail", "artefact")
RATINGS = (1, 2, 3, 4)


def cohen_kappa(pairs: Sequence[tuple[Any, Any]], quadratic: bool = False) -> float | None:
    """Agreement of two raters beyond chance.

    Cohen, Educational and Psychological Measurement 1960; with weights, Psychological Bulletin 1968.

    Parameters
    ----------
    pairs : sequence of (first, second)
        What each rater said of the same thing: words, or numbers where `quadratic`.
    quadratic : bool
        A disagreement counts by the square of its size; without, it is a disagreement.

    Returns
    -------
    float or None
        None where chance alone would agree fully: nothing rated, or everything the same by both.
    """

    def cost(a, b):
        return (a - b) ** 2 if quadratic else int(a != b)

    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    observed = sum(cost(a, b) for a, b in pairs)
    expected = sum(cost(a, b) * m * n for a, m in first.items() for b, n in second.items())
    return 1 - observed * len(pairs) / expected if expected else None


def read_ratings(path: str | Path) -> list[dict[str, Any]]:
    """Read a page's export.

    Parameters
    ----------
    path : path
        JSON, or CSV by its name.

    Returns
    -------
    list of dict
        ``scan``, ``image``, ``hash``, ``verdict`` (or None), ``rating`` (1..4 or None), ``notes``, ``rater``, ``time``.

    Raises
    ------
    InputError
        The file cannot be read or is no such export.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            # The page writes an apostrophe before what a spreadsheet would take for a formula.
            rows = [
                {name: re.sub("^'(?='*[-=+@\t\r])", "", value or "") for name, value in row.items() if name}
                for row in csv.DictReader(io.StringIO(text, newline=""))
            ]
        else:
            rows = json.loads(text)["ratings"]
        return [_clean(row) for row in rows]
    except OSError as err:
        raise InputError(f"{path}: cannot be read ({err.strerror or err}); give an export of the QC page") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise InputError(f"{path}: is no export of ratings; give one made by the QC page") from err


def _clean(row):
    rating = str(row.get("rating") or "")
    return {
        "scan": str(row["scan"]),
        **{name: str(row.get(name) or "") for name in ("image", "hash", "notes", "rater", "time")},
        "verdict": row.get("verdict") if row.get("verdict") in VERDICTS else None,
        "rating": int(rating) if rating in map(str, RATINGS) else None,
    }


def compare_raters(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Compare two raters' exports of the same scans.

    Scans whose masks were different ones when they were rated are left out.

    Parameters
    ----------
    first, second : list of dict
        From :func:`read_ratings`.

    Returns
    -------
    dict
        ``scans`` (rated by both), ``different_masks``, ``verdicts`` (``n``, ``agreement``, ``kappa``),
        ``ratings`` (``n``, ``agreement``, ``weighted_kappa``, quadratic), ``disagreements``.
    """
    other = {row["scan"]: row for row in second}
    both = [(row, other[row["scan"]]) for row in first if row["scan"] in other]
    same = [(a, b) for a, b in both if a["hash"] == b["hash"]]
    verdicts, ratings = _both_said(same, "verdict"), _both_said(same, "rating")
    return {
        "scans": len(both),
        "different_masks": len(both) - len(same),
        "verdicts": {**_share(verdicts), "kappa": cohen_kappa(verdicts)},
        "ratings": {**_share(ratings), "weighted_kappa": cohen_kappa(ratings, quadratic=True)},
        "disagreements": [
            {"scan": a["scan"], "image": a["image"], "first": _said(a), "second": _said(b)}
            for a, b in same
            if any(a[name] and b[name] and a[name] != b[name] for name in ("verdict", "rating"))
        ],
    }


def describe(found: dict[str, Any]) -> str:
    """A comparison of raters as lines for people."""
    lines = [f"{found['scans']} scans rated by both"]
    if found["different_masks"]:
        lines[0] += f"; {found['different_masks']} left out, for the masks rated were different ones"
    for name, text, kappa in (
        ("verdicts", "verdict (pass, fail, artefact): Cohen's kappa", "kappa"),
        ("ratings", "quality 1-4: quadratically weighted kappa", "weighted_kappa"),
    ):
        part = found[name]
        value = "undefined" if part[kappa] is None else f"{part[kappa]:.3f}"
        share = "" if part["agreement"] is None else f", {part['agreement']:.0%} the same"
        lines.append(f"{text} {value} on {part['n']} scans{share}")
    lines += [f"  {d['image'] or d['scan']}: {d['first']} / {d['second']}" for d in found["disagreements"]]
    return "\n".join(lines)


def _both_said(pairs, name):
    return [(a[name], b[name]) for a, b in pairs if a[name] and b[name]]


def _share(pairs):
    return {"n": len(pairs), "agreement": sum(a == b for a, b in pairs) / len(pairs) if pairs else None}


def _said(row):
    return " ".join(str(row[name]) for name in ("verdict", "rating") if row[name])

"""Ratings that QC pages export, and how far two raters agree."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sctseg7t.errors import InputError, UsageError
from sctseg7t.text import counted

VERDICTS = ("pass", "fail", "artefact")
RATINGS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Kappa:
    """Agreement of two raters beyond chance.

    Attributes
    ----------
    n : int
        Things that both rated.
    agreement : float or None
        Part of them of which both said the same.
    kappa : float or None
        None where chance alone would agree fully: nothing rated, or everything the same by both.
    interval : (low, high) or None
        95 %, for large samples; None where the two never or always differ, which says nothing of its width.
    table : (K, K) list of lists of int
        How often the first rater (rows) and the second (columns) said each category.
    """

    n: int
    agreement: float | None
    kappa: float | None
    interval: tuple[float, float] | None
    table: list[list[int]]


def cohen_kappa(pairs: Sequence[tuple[Any, Any]], categories: Sequence[Any], quadratic: bool = False) -> Kappa:
    """Cohen's kappa and its 95 % interval.

    Cohen, Educational and Psychological Measurement 1960; with weights, Psychological Bulletin 1968. The interval is
    that of large samples with kappa other than 0: Fleiss, Cohen and Everitt, Psychological Bulletin 1969.

    Parameters
    ----------
    pairs : sequence of (first, second)
        What each rater said of the same thing.
    categories : sequence
        All that can be said, in order.
    quadratic : bool
        A disagreement counts by the square of its distance in `categories`; without, it is a disagreement.
    """
    n, size = len(pairs), len(categories)
    counts = np.zeros((size, size))
    for first, second in pairs:
        counts[categories.index(first), categories.index(second)] += 1
    table = counts.astype(int).tolist()
    if not n:
        return Kappa(0, None, None, None, table)
    agreement = float(np.trace(counts)) / n
    distance = np.subtract.outer(np.arange(size), np.arange(size))
    weight = 1 - (distance / (size - 1)) ** 2 if quadratic else (distance == 0).astype(float)
    part = counts / n
    rows, columns = part.sum(axis=1), part.sum(axis=0)
    observed, expected = float((weight * part).sum()), float(rows @ weight @ columns)
    if 1 - expected < 1e-12:
        return Kappa(n, agreement, None, None, table)
    kappa = (observed - expected) / (1 - expected)
    means = (weight @ columns)[:, None] + (rows @ weight)[None, :]
    spread = float((part * (weight * (1 - expected) - means * (1 - observed)) ** 2).sum())
    variance = (spread - (observed * expected - 2 * expected + observed) ** 2) / (n * (1 - expected) ** 4)
    half = 1.959964 * max(variance, 0.0) ** 0.5
    interval = (max(-1.0, kappa - half), min(1.0, kappa + half)) if half > 1e-6 else None
    return Kappa(n, agreement, kappa, interval, table)


def read_ratings(path: str | Path) -> list[dict[str, Any]]:
    """Read a page's export.

    Parameters
    ----------
    path : path
        JSON, or CSV by its name.

    Returns
    -------
    list of dict
        ``scan``, ``participant_id`` and ``session_id``: those of the cohort's tables. ``image``: name of the file.
        ``verdict`` (one of VERDICTS, or None), ``artefacts`` (kinds, joined by ;), ``rating`` (one of RATINGS, 1 bad to
        4 good, or None), ``notes``.
        ``rater``, ``time`` (ISO 8601, UTC). ``stale``: the masks have changed since. ``hash``: of the masks that were
        rated. ``record``: the page's own key of the scan. What an export does not have is "", and ``stale`` False;
        one of version 0.1.0 has ``record`` as ``scan``.

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
            rater = ""
        else:
            content = json.loads(text)
            rows, rater = content["ratings"], str(content.get("rater") or "")
        return [_clean(row, rater) for row in rows]
    except OSError as err:
        raise InputError(f"{path}: cannot be read ({err.strerror or err}); give an export of the QC page") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise InputError(f"{path}: is no export of ratings; give one made by the QC page") from err


def _clean(row, rater):
    rating = str(row.get("rating") or "")
    texts = ("participant_id", "session_id", "image", "artefacts", "hash", "notes", "time", "record")
    return {
        "scan": str(row["scan"]),
        **{name: str(row.get(name) or "") for name in texts},
        "rater": str(row.get("rater") or rater).strip(),
        "stale": str(row.get("stale")).lower() == "true",
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
        ``raters`` (names), ``scans`` (rated by both), ``different_masks``, ``verdicts`` and ``ratings`` (quadratic
        weights): a :class:`Kappa` as a dict, with its ``categories``; ``disagreements``.

    Raises
    ------
    UsageError
        Both are the same rater's, or the same ratings.
    """
    raters = [sorted({row["rater"] for row in rows}) for rows in (first, second)]
    theirs = {name.casefold() for name in raters[1]}
    for name in raters[0]:
        if name and name.casefold() in theirs:
            raise UsageError(
                f"both are ratings of {name}; compare two raters "
                f'(a second round needs a name of its own, such as "{name} 2")'
            )
    if first and _content(first) == _content(second):
        raise UsageError("both are the same ratings; compare two raters")
    both = _paired(first, second)
    same = [(a, b) for a, b in both if a["hash"] == b["hash"]]
    parts = {}
    for key, name, categories in (("verdicts", "verdict", VERDICTS), ("ratings", "rating", RATINGS)):
        pairs = [(a[name], b[name]) for a, b in same if a[name] and b[name]]
        parts[key] = {"categories": categories, **asdict(cohen_kappa(pairs, categories, quadratic=name == "rating"))}
    return {
        "raters": [", ".join(name or "no name" for name in names) or "nobody" for names in raters],
        "scans": len(both),
        "different_masks": len(both) - len(same),
        **parts,
        "disagreements": [
            {"scan": a["scan"], "image": a["image"], "first": _said(a), "second": _said(b)}
            for a, b in same
            if any(a[name] and b[name] and a[name] != b[name] for name in ("verdict", "rating"))
        ],
    }


def _content(rows):
    return sorted(str([row[name] for name in ("scan", "verdict", "rating", "notes", "time")]) for row in rows)


def _paired(first, second):
    """Rows of the same scans: by the page's key, or else by the scan's name if only one has it."""
    by_key = {row["record"] or row["scan"]: row for row in second}
    mine, theirs = (Counter(row["scan"] for row in rows) for rows in (first, second))
    by_name = {row["scan"]: row for row in second if theirs[row["scan"]] == 1}
    found = []
    for row in first:
        name = row["scan"] if mine[row["scan"]] == 1 else None
        other = by_key.get(row["record"] or row["scan"]) or by_name.get(name)
        if other:
            found.append((row, other))
    return found


def describe(found: dict[str, Any]) -> str:
    """A comparison of raters as lines for people."""
    lines = [f"{' and '.join(found['raters'])}: {counted(found['scans'], 'scan')} rated by both"]
    if found["different_masks"]:
        lines[0] += f"; {found['different_masks']} left out, for the masks rated were different ones"
    for name, text in (
        ("verdicts", "verdict (pass, fail, artefact): Cohen's kappa"),
        ("ratings", "quality 1-4: quadratically weighted kappa"),
    ):
        part = found[name]
        value = "undefined" if part["kappa"] is None else f"{part['kappa']:.3f}"
        if part["interval"]:
            value += " (95 % {:.2f} to {:.2f})".format(*part["interval"])
        share = "" if part["agreement"] is None else f", {part['agreement']:.0%} the same"
        lines.append(f"{text} {value} on {counted(part['n'], 'scan')}{share}")
        if part["n"]:
            rows = [["", *map(str, part["categories"])]]
            rows += [[str(c), *map(str, row)] for c, row in zip(part["categories"], part["table"])]
            lines += ["  " + "".join(f"{cell:>10}" for cell in row) for row in rows]
    lines.append(f"(rows {found['raters'][0]}, columns {found['raters'][1]}; interval for large samples)")
    lines += [f"  {d['image'] or d['scan']}: {d['first']} / {d['second']}" for d in found["disagreements"]]
    return "\n".join(lines)


def _said(row):
    return " ".join(str(row[name]) for name in ("verdict", "rating") if row[name])

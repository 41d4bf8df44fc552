"""Splits: which people a network learns from, which choose its weights, and on which it is measured at the end.

A file (``splits.json``) holds one split or many: seeds, or folds. A person is in one part only, with all sessions.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from sctseg7t.errors import InputError
from sctseg7t.files import write_json
from sctseg7t.train.scans.labelled import LabelledScan

PARTS = ("train", "validation", "test")
SHARES = (0.7, 0.15, 0.15)


@dataclass(frozen=True)
class Split:
    """People by part; ``validation`` or ``test`` may be empty."""

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def digest(self) -> str:
        """SHA-256 of who is in which part."""
        told = {part: sorted(getattr(self, part)) for part in PARTS}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def scans(self, part: str, scans: Iterable[LabelledScan]) -> list[LabelledScan]:
        """The scans of a part's people."""
        return [scan for scan in scans if scan.subject in getattr(self, part)]


def shared_out(
    people: Mapping[str, str], shares: Sequence[float] = SHARES, seeds: Iterable[int] = range(9)
) -> list[Split]:
    """Random splits of people into training, validation and test, one a seed, each stratum alike.

    Parameters
    ----------
    people : dict of str to str
        Stratum of each person ("" of all: not stratified).
    shares : three floats
        Of training, validation and test; a part whose share is 0 stays empty.

    Raises
    ------
    InputError
        Fewer people than parts.
    """
    wanted = sum(share > 0 for share in shares)
    if len(people) < wanted:
        raise InputError(
            f"{len(people)} {'person' if len(people) == 1 else 'people'} ({', '.join(sorted(people))}) cannot be split "
            f"into {wanted} parts: a person is in one part only; label scans of more people, or tell who is whose"
        )
    return [_drawn(str(seed), people, shares, seed) for seed in seeds]


def folds(people: Mapping[str, str], count: int, validation: float = 0.0, seed: int = 0) -> list[Split]:
    """Folds: each person is tested in one of them; a share of the others chooses the weights.

    Parameters
    ----------
    people : dict of str to str
        Stratum of each person.
    count : int
        As many as there are people: leave one person out.
    validation : float
        Share of the people that are not tested.

    Raises
    ------
    InputError
        Fewer people than folds, or fewer than 2.
    """
    if not 2 <= count <= len(people):
        raise InputError(f"{count} folds of {len(people)} people: give 2 folds or more, and no more than people")
    # Strata one after the other, dealt out in turn: each fold gets its part of every stratum.
    dealt = [name for group in _shuffled(people, np.random.default_rng(seed)) for name in group]
    splits = []
    for k in range(count):
        tested = dealt[k::count]
        rest = {name: stratum for name, stratum in people.items() if name not in tested}
        chosen = _drawn("", rest, (1 - validation, validation, 0), seed).validation if validation else ()
        train = [name for name in rest if name not in chosen]
        splits.append(Split(f"fold-{k}", tuple(sorted(train)), chosen, tuple(sorted(tested))))
    return splits


def _shuffled(people: Mapping[str, str], rng: np.random.Generator) -> list[list[str]]:
    groups = defaultdict(list)
    for name in sorted(people):
        groups[people[name]].append(name)
    return [[str(name) for name in rng.permutation(groups[stratum])] for stratum in sorted(groups)]


def _drawn(name: str, people: Mapping[str, str], shares: Sequence[float], seed: int) -> Split:
    """One random split."""
    total = sum(shares)
    # What is dealt next goes to the part that lags most behind its share: strata are spread, and no part is empty.
    sizes = [max(round(share / total * len(people)), share > 0) for share in shares]
    sizes[0] = len(people) - sum(sizes[1:])
    parts: list[list[str]] = [[] for _ in shares]
    for group in _shuffled(people, np.random.default_rng(seed)):
        done = [len(part) for part in parts]
        for k, person in enumerate(group):
            lag = [
                size / len(people) * (k + 1) - (len(part) - before) if len(part) < size else -np.inf
                for part, before, size in zip(parts, done, sizes)
            ]
            parts[int(np.argmax(lag))].append(person)
    return Split(name, *(tuple(sorted(part)) for part in parts))


def write_splits(path: str | Path, splits: Sequence[Split], about: Mapping[str, object] | None = None) -> None:
    """Write a file of splits; ``about``: how they were made."""
    write_json(Path(path), {**(about or {}), "splits": [asdict(split) for split in splits]})


def read_splits(path: str | Path) -> list[Split]:
    """Read a file of splits: ``{"splits": [{"name", "train", "validation", "test"}]}``, or one of them alone.

    Raises
    ------
    InputError
        Of another form, or a person is in two parts.
    """
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise InputError(f"{path}: not a readable file of splits ({err})") from err
    rows = told.get("splits", [told] if "train" in told else None) if isinstance(told, dict) else None
    known = {field.name for field in fields(Split)}
    if not rows or not all(isinstance(row, dict) and "train" in row and set(row) <= known for row in rows):
        raise InputError(f'{path}: not a file of splits; it holds {{"splits": [{{"name", {", ".join(PARTS)}}}]}}')
    splits = []
    for k, row in enumerate(rows):
        parts = {part: tuple(str(name).removeprefix("sub-") for name in row.get(part) or ()) for part in PARTS}
        splits.append(Split(str(row.get("name", k)), **parts))
        names = [name for part in parts.values() for name in part]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"{path}: split {splits[-1].name}: {', '.join(twice)} is in two parts; leave it in one")
    return splits


def chosen(splits: Sequence[Split], name: str | None, path: str | Path) -> Split:
    """The split of that name; without a name the only one, or the first (InputError where there is none)."""
    for split in splits:
        if name in (None, split.name):
            return split
    raise InputError(f"{path}: has no split {name}; it has {', '.join(split.name for split in splits)}")


def check_people(split: Split, scans: Sequence[LabelledScan], path: str | Path) -> None:
    """Refuse a split that names people without scans, or leaves its training part without any (InputError)."""
    people = {scan.subject for scan in scans}
    missing = sorted({name for part in PARTS for name in getattr(split, part)} - people)
    if missing:
        known = ", ".join(sorted(people)[:8])
        raise InputError(
            f"{path}: split {split.name}: no labelled scan of {', '.join(missing[:5])}; the people are {known}"
        )
    if not split.train:
        raise InputError(f"{path}: split {split.name}: nobody to train on")

"""Whose scans a training learns from and is measured on: splits of people, and growing numbers of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sctseg7t.errors import InputError
from sctseg7t.train.scans.labelled import LabelledScan
from sctseg7t.train.scans.splits import SHARES, Split, folds, shared_out

EACH = "each"
ALL = "all"


def make_splits(told: Mapping[str, Any], strata: Mapping[str, str], wanted: int) -> list[Split]:
    """The splits of a study.

    Parameters
    ----------
    told : dict
        ``folds``: a number, or ``each``: every person is tested in one; with ``validation``, the share of the others
        that chooses the weights. Or ``shares`` of training, validation and test, drawn anew for each split.
    strata : dict of str to str
        Stratum of each person.
    wanted : int
        How many splits the study asks for.

    Raises
    ------
    InputError
        Fewer people than that takes, or fewer folds than splits.
    """
    if "folds" not in told:
        return shared_out(strata, told.get("shares", SHARES), range(wanted))
    count = len(strata) if told["folds"] == EACH else int(told["folds"])
    made = folds(strata, count, told.get("validation", 0.0))
    if wanted > len(made):
        raise InputError(f"the study asks for split {wanted - 1}, and {count} folds have 0 to {count - 1}")
    return made


def of_patients(split: Split, patients: Any) -> Split:
    """A split with so many of its training people; those of a smaller number are among those of a larger one.

    Raises
    ------
    InputError
        It has fewer.
    """
    if patients == ALL:
        return split
    if patients > len(split.train):
        raise InputError(
            f"split {split.name} has {len(split.train)} people to train on ({', '.join(split.train)}), not {patients}"
        )
    seed = int.from_bytes(hashlib.sha256(split.digest().encode()).digest()[:8], "big")
    order = [split.train[k] for k in np.random.default_rng(seed).permutation(len(split.train))]
    return replace(split, train=tuple(sorted(order[:patients])))


def strata_of(scans: Sequence[LabelledScan], groups: Mapping[str, str]) -> dict[str, str]:
    """Stratum of each person: the group of any label that is theirs; "" where none is told."""
    found = {}
    for scan in scans:
        label = scan.name.partition("_")[0].removeprefix("sub-")
        found[scan.subject] = found.get(scan.subject) or groups.get(scan.subject) or groups.get(label) or ""
    return found

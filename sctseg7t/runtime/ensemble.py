"""Several networks that answer as one, and how far what they say lies apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sctseg7t.runtime.session import Session, open_session
from sctseg7t.zoo.spec import ModelSpec
from sctseg7t.zoo.weights import all_weights

# From this probability on a network says yes.
YES = 0.5


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The loaded networks of a model that has several; they run one after the other."""

    members: tuple[Session, ...]

    @property
    def path(self) -> Any:
        """File of the first."""
        return self.members[0].path

    @property
    def device(self) -> str:
        """What they run on."""
        return self.members[0].device

    @property
    def threads(self) -> int:
        """CPU threads of each."""
        return self.members[0].threads


def open_networks(
    spec: ModelSpec, device: str = "auto", threads: int | None = None, *, offline: bool = False
) -> Session | Ensemble:
    """Verify and load the networks of a model: one session, or several as one where its entry has an ensemble.

    Parameters and errors are those of :func:`sctseg7t.zoo.weights.weights` and
    :func:`sctseg7t.runtime.session.open_session`.
    """
    first, *others = all_weights(spec, offline=offline)
    session = open_session(first, device, threads)
    # Where the first one's device was settled, it is not asked again.
    more = [open_session(path, session.device, threads) for path in others]
    return Ensemble((session, *more)) if more else session


def members(session: Any) -> tuple[Any, ...]:
    """The networks of a session, one or several."""
    return session.members if isinstance(session, Ensemble) else (session,)


def _mean(maps):
    return maps.mean(0)


def _median(maps):
    return np.median(maps, axis=0)


def _vote(maps):
    return (maps >= YES).mean(0)


# By the name that an entry gives: (M, ...) probabilities to (...).
RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"mean": _mean, "median": _median, "vote": _vote}


def combine(maps: Sequence[np.ndarray], rule: str | None) -> np.ndarray:
    """One map of several networks' maps.

    Parameters
    ----------
    maps : sequence of arrays of one shape
        Probabilities, one a network.
    rule : {"mean", "median", "vote"} or None
        ``vote``: the share of the networks that give a voxel 0.5 or more. None is for one network alone.

    Returns
    -------
    array of that shape, float32
    """
    if len(maps) == 1:
        return maps[0]
    return RULES[rule or "mean"](np.stack(maps)).astype(np.float32)


def spread(maps: Sequence[np.ndarray]) -> np.ndarray:
    """How far several maps lie apart: their standard deviation (over n) in each voxel, float32; 0 to 0.5."""
    return np.std(np.stack(maps), axis=0, dtype=np.float32)

"""Striped patatoids: pairs of images whose task needs both, and that no patient is needed for.

Image A shows blurred blobs. Image B shows the same blobs, striped at +45 or -45 degrees, shifted by a random
translation. The target are the blobs that are striped at +45 degrees in B, where they lie in A. B may be cut: what it
does not show nobody can know (Couteaux, thesis, 2021).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sctseg7t.errors import InputError

# What a pixel of A is, in PatatoidBatch.state.
MINUS, PLUS, UNKNOWN = 1, 2, 3


@dataclass(frozen=True)
class PatatoidSettings:
    """How pairs are drawn; lengths in pixels.

    Attributes
    ----------
    size : int
        Side of the images.
    blobs : (int, int)
        Fewest and most.
    radius : (float, float)
        Mean radius of a blob.
    blur : float
        SD of the blur of A.
    period : float
        Of the stripes, across them.
    shift : (float, float)
        Length of the translation, least and most; its direction is any.
    cut : float
        Share of the pairs in which a strip along one side of B is empty.
    noise : float
        SD of the noise of both images; blobs are 1 on 0.
    """

    size: int = 256
    blobs: tuple[int, int] = (6, 12)
    radius: tuple[float, float] = (10.0, 24.0)
    blur: float = 3.0
    period: float = 8.0
    shift: tuple[float, float] = (0.0, 20.0)
    cut: float = 0.3
    noise: float = 0.05


@dataclass(frozen=True)
class PatatoidBatch:
    """Pairs (N, 2, H, W), targets (N, 1, H, W), and what A's pixels are: 0 ground, MINUS, PLUS or UNKNOWN blobs."""

    image: Tensor
    target: Tensor
    state: Tensor


class PatatoidSimulator:
    """Draws pairs; the same seed gives the same batch.

    Parameters
    ----------
    settings : mapping
        Of :class:`PatatoidSettings`, by name.

    Raises
    ------
    InputError
        An unknown setting.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        known = [field.name for field in fields(PatatoidSettings)]
        if unknown := sorted(set(settings) - set(known)):
            raise InputError(f"patatoids: no setting is called {unknown[0]!r}; there are {', '.join(known)}")
        self.settings = PatatoidSettings(**settings)

    def batch(self, count: int, seed: int) -> PatatoidBatch:
        """A batch of pairs."""
        rng = np.random.default_rng(seed)
        image, target, state = (np.stack(part) for part in zip(*(self._pair(rng) for _ in range(count))))
        return PatatoidBatch(*(torch.from_numpy(part.astype(np.float32)) for part in (image, target, state)))

    def _pair(self, rng):
        """Image (2, H, W), target and state (1, H, W) of one pair."""
        from scipy.ndimage import gaussian_filter

        own = self.settings
        length, angle = rng.uniform(*own.shift), rng.uniform(0, 2 * np.pi)
        step = np.rint(length * np.array([np.cos(angle), np.sin(angle)])).astype(int)
        seen = self._seen(rng)
        first, second, state = (np.zeros((own.size, own.size)) for _ in range(3))
        rows, columns = np.indices(first.shape)
        for shape in self._shapes(rng):
            plus = bool(rng.integers(2))
            inside = shape(rows, columns)
            # Where B has the blob: its outline moved by the translation.
            there = shape(rows - step[0], columns - step[1]) & seen
            across = (rows + columns if plus else rows - columns) / np.sqrt(2)
            first[inside] = 1
            second[there & (np.floor(2 * across / own.period) % 2 == 0)] = 1
            state[inside] = (PLUS if plus else MINUS) if there.sum() >= 0.5 * inside.sum() else UNKNOWN
        # Of blobs that B does not show, half are striped at +45 degrees all the same: nobody can know which.
        coin = rng.integers(2, size=first.shape[0])
        images = np.stack([gaussian_filter(first, own.blur), second])
        images += rng.normal(0, own.noise, images.shape)
        target = state == PLUS
        return images, self._with_unknown(target, state, coin)[None], state[None]

    @staticmethod
    def _with_unknown(target, state, coin):
        from scipy.ndimage import label

        parts, count = label(state == UNKNOWN)
        for k in range(count):
            if coin[k % len(coin)]:
                target = target | (parts == k + 1)
        return target

    def _seen(self, rng):
        """Pixels of B that are not cut away."""
        own = self.settings
        seen = np.ones((own.size, own.size), bool)
        if rng.random() < own.cut:
            width = int(rng.uniform(0.2, 0.5) * own.size)
            seen[:width] = False
            seen = np.rot90(seen, rng.integers(4))
        return seen

    def _shapes(self, rng):
        """Functions of rows and columns, one a blob: closed outlines like potatoes, none over another."""
        own, shapes, placed = self.settings, [], []
        wanted = rng.integers(own.blobs[0], own.blobs[1] + 1)
        for _ in range(40 * wanted):
            if len(shapes) == wanted:
                break
            radius, centre = rng.uniform(*own.radius), rng.uniform(0, own.size, 2)
            if any(np.hypot(*(centre - other)) < 1.3 * (radius + size) for other, size in placed):
                continue
            placed.append((centre, radius))
            waves = rng.uniform(-0.12, 0.12, 3), rng.uniform(0, 2 * np.pi, 3)
            shapes.append(_Blob(centre, radius, *waves))
        return shapes


@dataclass(frozen=True, eq=False)
class _Blob:
    centre: np.ndarray
    radius: float
    heights: np.ndarray
    phases: np.ndarray

    def __call__(self, rows, columns):
        y, x = rows - self.centre[0], columns - self.centre[1]
        angle = np.arctan2(y, x)
        waves = sum(h * np.cos((k + 2) * angle + p) for k, (h, p) in enumerate(zip(self.heights, self.phases)))
        return np.hypot(x, y) <= self.radius * (1 + waves)


def read_off(probability: np.ndarray, state: np.ndarray) -> dict[str, float]:
    """What a network says of patatoids, blob by blob.

    Parameters
    ----------
    probability, state : (N, H, W) array

    Returns
    -------
    dict
        ``right``: share of the blobs that B shows whose mean probability is on the right side of 0.5 (chance: 0.5);
        ``dice`` of the +45 blobs against all that B shows, at 0.5; ``unknown``: mean probability over the blobs whose
        partner is cut away, and ``unknown_sd`` over their means; NaN where there are none.
    """
    from scipy.ndimage import label, mean

    right, unknown = [], []
    for p, kinds in zip(probability, state):
        for kind in (MINUS, PLUS, UNKNOWN):
            parts, count = label(kinds == kind)
            values = np.atleast_1d(mean(p, parts, range(1, count + 1))) if count else np.zeros(0)
            if kind == UNKNOWN:
                unknown += list(values)
            else:
                right += list((values > 0.5) == (kind == PLUS))
    known = state != UNKNOWN
    found, true = (probability > 0.5) & known, state == PLUS
    return {
        "right": float(np.mean(right)) if right else float("nan"),
        "dice": float(2 * (found & true).sum() / max(found.sum() + true.sum(), 1)),
        "unknown": float(np.mean(unknown)) if unknown else float("nan"),
        "unknown_sd": float(np.std(unknown)) if unknown else float("nan"),
    }

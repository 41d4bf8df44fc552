"""Losses by name, for masks that were drawn in part: what was not drawn, or lies beyond the scan, does not count."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sctseg7t.errors import InputError

# Of logits, targets and counts (N, K, ...): a number for each label, (K,), or for each image and label, (N, K).
Term = Callable[..., Tensor]


def cross_entropy(logits: Tensor, target: Tensor, counts: Tensor, *, marked: float = 1.0) -> Tensor:
    """Mean cross-entropy; ``marked``: weight of what is marked against what is not."""
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * counts
    axes = (0, *range(2, logits.dim()))
    return (bce * (1 + (marked - 1) * target)).sum(axes) / counts.sum(axes).clamp(min=1)


def dice(logits: Tensor, target: Tensor, counts: Tensor, *, each: bool = False, spare: float = 1.0) -> Tensor:
    """Squared soft Dice loss, of the batch or of ``each`` image; ``spare`` keeps empty ones from counting every voxel.

    Its optimum is the target, also where that is a fraction.
    """
    prob, target = torch.sigmoid(logits) * counts, target * counts
    axes = tuple(range(2, logits.dim())) if each else (0, *range(2, logits.dim()))
    overlap, total = (prob * target).sum(axes), (prob**2).sum(axes) + (target**2).sum(axes)
    return 1 - (2 * overlap + spare) / (total + spare)


def tversky(
    logits: Tensor, target: Tensor, counts: Tensor, *, each: bool = False, spare: float = 1.0, missed: float = 0.7
) -> Tensor:
    """Tversky loss (Salehi et al., MLMI 2017): what is missed weighs ``missed``, what is marked falsely the rest."""
    prob, target = torch.sigmoid(logits) * counts, target * counts
    axes = tuple(range(2, logits.dim())) if each else (0, *range(2, logits.dim()))
    hit, lost, false = (part.sum(axes) for part in (prob * target, (1 - prob) * target, prob * (counts - target)))
    return 1 - (hit + spare) / (hit + missed * lost + (1 - missed) * false + spare)


def focal(logits: Tensor, target: Tensor, counts: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017): what is nearly right weighs little."""
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = (torch.sigmoid(logits) - target).abs() ** gamma
    axes = (0, *range(2, logits.dim()))
    return (bce * wrong * counts).sum(axes) / counts.sum(axes).clamp(min=1)


TERMS: dict[str, Term] = {"bce": cross_entropy, "dice": dice, "tversky": tversky, "focal": focal}
# What a recipe calls them; each is a sum of terms.
LOSSES = {
    "bce_dice": ("bce", "dice"),
    "dice": ("dice",),
    "bce": ("bce",),
    "focal_dice": ("focal", "dice"),
    "bce_tversky": ("bce", "tversky"),
}


def loss(logits: Tensor, target: Tensor, counts: Tensor, name: str = "bce_dice", **settings: Any) -> Tensor:
    """The loss of a name, the mean of its labels.

    Parameters
    ----------
    logits, target, counts : (N, K, ...) tensor
        counts: 1 where the target is known, else 0.
    name : str
        One of ``LOSSES``.
    settings : dict
        By term, such as ``dice={"each": True}``; ``area``: weight of the squared error of each image's area, relative
        to the mean of the batch, which keeps areas right on average.

    Raises
    ------
    InputError
        An unknown name or setting.
    """
    if name not in LOSSES:
        raise InputError(f"loss {name!r} is unknown; use {', '.join(LOSSES)}")
    area = settings.pop("area", 0.0)
    unknown = sorted(set(settings) - set(LOSSES[name]))
    if unknown:
        raise InputError(f"loss {name}: no term is called {unknown[0]!r}; it has {', '.join(LOSSES[name])} and area")
    try:
        total = sum(TERMS[term](logits, target, counts, **settings.get(term, {})).mean() for term in LOSSES[name])
    except TypeError as err:
        raise InputError(f"loss {name}: {err}") from err
    if area:
        axes = tuple(range(2, logits.dim()))
        found, true = ((values * counts).sum(axes) for values in (torch.sigmoid(logits), target))
        typical = true.sum(0) / (true > 0).sum(0).clamp(min=1)
        apart = (found - true) / typical.clamp(min=1)
        total = total + area * (apart**2).mean()
    return torch.as_tensor(total)


def deep_loss(logits: Tensor, target: Tensor, counts: Tensor, **told: Any) -> Tensor:
    """The loss of a network with deep supervision, (N, heads, K, ...): each further head counts half as much."""
    if logits.dim() == target.dim():
        return loss(logits, target, counts, **told)
    heads = logits.unbind(1)
    weights = [0.5**k for k in range(len(heads))]
    parts = [weight * loss(head, target, counts, **dict(told)) for weight, head in zip(weights, heads)]
    return torch.stack(parts).sum() / sum(weights)

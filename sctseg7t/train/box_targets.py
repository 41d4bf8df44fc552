"""What a detector of new lesions learns, and how detections are counted."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from sctseg7t.brain.boxes import LARGEST_VOX, find_boxes
from sctseg7t.train.losses import cross_entropy, dice

_CORNERS = np.ones((3, 3, 3))
# Sizes by which new lesions are counted, voxels of 1 mm: small, middle, large.
SIZES = {"small": (3, 30), "middle": (30, 100), "large": (100, 10**9)}
# Objectness of a middle falls off over this share of the box.
_SPREAD = 0.18
_FOUND = {False: 0.5, True: 0.3}


def box_maps(target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Objectness (X, Y, Z) of the boxes around parts of a mask, and distances (6, X, Y, Z) to the sides, as shares.

    Distances are those of the part whose middle is nearest, near it; 0 elsewhere.
    """
    heat, sides = np.zeros(target.shape, np.float32), np.zeros((6, *target.shape), np.float32)
    labels, _ = ndimage.label(target, _CORNERS)
    for box in ndimage.find_objects(labels):
        low, high = (np.array([getattr(s, end) for s in box], float) for end in ("start", "stop"))
        low, high = low - 0.5, high - 0.5
        middle, spread = (low + high) / 2, np.maximum((high - low) * _SPREAD, 0.8)
        reach = tuple(
            slice(max(int(m - 3 * s), 0), min(int(m + 3 * s) + 2, n)) for m, s, n in zip(middle, spread, target.shape)
        )
        at = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in reach), indexing="ij"))
        away = (at - middle.reshape(3, 1, 1, 1)) / spread.reshape(3, 1, 1, 1)
        bump = np.exp(-0.5 * (away**2).sum(0)).astype(np.float32)
        # The nearest cell is a middle.
        bump[np.unravel_index(bump.argmax(), bump.shape)] = 1.0
        nearer = bump > heat[reach]
        heat[reach] = np.maximum(heat[reach], bump)
        ways = np.empty((6, *at.shape[1:]), np.float32)
        ways[0::2], ways[1::2] = at - low.reshape(3, 1, 1, 1), high.reshape(3, 1, 1, 1) - at
        sides[(slice(None), *reach)] = np.where(nearer, ways / LARGEST_VOX, sides[(slice(None), *reach)])
    return heat, sides.clip(0, 1)


def box_loss(logits: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Of lesions: cross-entropy and Dice; of objectness: focal loss with fewer penalties near middles (Law and Deng,
    CornerNet, ECCV 2018); of the sides: their error near middles, in shares of the box.

    Parameters
    ----------
    logits : (N, 8, X, Y, Z)
    target : (N, 2, X, Y, Z)
        Lesions at the follow-up, and new ones.
    inside : (N, 1, X, Y, Z)
    """
    made = [box_maps(one > 0.5) for one in target[:, 1].cpu().numpy()]
    heat, sides = (torch.from_numpy(np.stack(part)).to(logits.device) for part in zip(*made))
    known = inside[:, 0]
    prob = torch.sigmoid(logits[:, 1]).clamp(1e-5, 1 - 1e-5)
    middle = heat > 0.999
    hit = -((1 - prob) ** 2 * prob.log())[middle].sum()
    false = -((1 - heat) ** 4 * prob**2 * (1 - prob).log() * known)[~middle].sum()
    count = middle.sum().clamp(min=1)
    near = (heat > 0.3).float()[:, None]
    size = (sides[:, 0::2] + sides[:, 1::2]).repeat_interleave(2, 1).clamp(min=1 / LARGEST_VOX)
    error = ((torch.sigmoid(logits[:, 2:]) - sides).abs() / size * near).sum() / near.sum().clamp(min=1)
    drawn, lesion, counts = logits[:, :1], target[:, :1], inside
    lesions = 5 * cross_entropy(drawn, lesion, counts, marked=5.0) + dice(
        drawn, lesion, counts, each=True, spare=20.0
    ).mean(0)
    return (hit + false) / count + error + lesions.sum() / 2


def change_scores(probability: Tensor, target: Tensor, *, boxes: bool) -> dict[str, float]:
    """Of new lesions: the share found, of all sizes and of each; false marks an image; voxel Dice of all lesions.

    Parameters
    ----------
    probability : (N, 2 or 8, ...)
    target : (N, 2, ...)
    boxes : bool
        The first maps after lesions are a detector's.
    """
    hits, marks = {name: [0, 0] for name in SIZES}, 0
    for prob, true in zip(probability.numpy(), target[:, 1].numpy() > 0.5):
        labels, count = ndimage.label(true, np.ones((3,) * true.ndim))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        found = _found(prob[1:], boxes)
        touched = set().union(*(set(np.unique(labels[part])) for part in found)) if found else set()
        marks += sum(not labels[part].any() for part in found)
        for number in range(1, count + 1):
            for name, (low, high) in SIZES.items():
                if low <= sizes[number] < high:
                    hits[name][0] += number in touched
                    hits[name][1] += 1
    hard, lesion = probability[:, 0] > 0.5, target[:, 0] > 0.5
    total = [sum(part) for part in zip(*hits.values())]
    return {
        "new_found": round(total[0] / max(total[1], 1), 4),
        **{f"new_found_{name}": round(found / max(count, 1), 4) for name, (found, count) in hits.items()},
        "false_marks": round(marks / len(probability), 4),
        "dice_LESION": round((2 * (hard & lesion).sum() / (hard.sum() + lesion.sum()).clamp(min=1)).item(), 4),
    }


def _found(maps, boxes):
    """Voxels of each mark: of a box its slices, else those of a connected part, as an index of an array."""
    if boxes:
        return [box.slices for box in find_boxes(maps, _FOUND[True])]
    labels, count = ndimage.label(maps[0] > _FOUND[False], np.ones((3,) * maps[0].ndim))
    sizes = np.bincount(labels.ravel())
    return [labels == number for number in range(1, count + 1) if sizes[number] >= 3]

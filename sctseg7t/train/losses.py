"""What the networks are trained to lessen, one loss a task."""

import torch
from torch.nn import functional as F


def loss_of(task):
    """The loss of a recipe's task: a function of logits and batch."""
    return {"cord": loss_cord, "locator": loss_locator, "brain_lesion": loss_lesion}[task]


def loss_cord(logits, batch):
    """Cross-entropy plus soft Dice against partial-volume fractions, inside the image."""
    inside = batch.inside
    bce = F.binary_cross_entropy_with_logits(logits, batch.target, reduction="none")
    weight = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).to(logits.device)
    bce = (bce * inside * weight).sum() / inside.sum()
    prob, target = torch.sigmoid(logits) * inside, batch.target * inside
    overlap = (prob * target).sum((0, 2, 3))
    # Squared soft Dice has its optimum at prob == target, also for fractions.
    total = (prob**2).sum((0, 2, 3)) + (target**2).sum((0, 2, 3))
    return bce + (1 - (2 * overlap + 1) / (total + 1)).mean()


def loss_locator(logits, batch):
    """Cross-entropy against the heat map, weighted where the cord is."""
    bce = F.binary_cross_entropy_with_logits(logits, batch.target, reduction="none")
    return (bce * (1 + 12 * batch.target)).mean()


def loss_lesion(logits, batch):
    """Cross-entropy plus soft Dice of each patch: a patch with one small lesion counts as much as one full of them."""
    bce = F.binary_cross_entropy_with_logits(logits, batch.target, reduction="none")
    # Lesions are a hundredth of the voxels.
    bce = (bce * (1 + 4 * batch.target)).mean()
    prob = torch.sigmoid(logits)
    overlap = (prob * batch.target).sum((1, 2, 3, 4))
    total = (prob**2).sum((1, 2, 3, 4)) + batch.target.sum((1, 2, 3, 4))
    # The constant keeps patches without lesions from counting every faint voxel as a total miss.
    dice = 1 - (2 * overlap + 20) / (total + 20)
    return 5 * bce + dice.mean()

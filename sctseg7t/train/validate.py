"""Validation on simulated images that no training step sees; the best weights are chosen by it alone."""

import torch

from sctseg7t.train.losses import loss_of

VALIDATION_SEED = 10_000_000


def held_out(simulator, recipe):
    """The batches that a run is validated on, the same at every validation."""
    count = max(1, recipe.validation_images // recipe.batch)
    return [simulator.batch(recipe.batch, VALIDATION_SEED + k) for k in range(count)]


def validate(network, batches, recipe, place):
    """Loss and, per output, Dice at 0.5 and the ratio of areas, over simulated images."""
    measure = loss_of(recipe.task)
    losses, prob, target = [], [], []
    with torch.no_grad():
        for batch in batches:
            batch = place.batch(batch)
            logits = network(batch.image)
            losses.append(measure(logits, batch).item())
            prob.append((torch.sigmoid(logits) * getattr(batch, "inside", 1)).cpu())
            target.append((batch.target * getattr(batch, "inside", 1)).cpu())
    prob, target = torch.cat(prob), torch.cat(target)
    row = {"loss": round(sum(losses) / len(losses), 5)}
    return row | _SCORES[recipe.task](prob, target)


def _cord_scores(prob, target):
    row = {}
    for channel, name in enumerate(("SC", "GM")):
        p, t = prob[:, channel], target[:, channel]
        hard_p, hard_t = p > 0.5, t > 0.5
        dice = 2 * (hard_p & hard_t).sum((1, 2)) / (hard_p.sum((1, 2)) + hard_t.sum((1, 2))).clamp(min=1)
        row[f"dice_{name}"] = round(dice.mean().item(), 4)
        row[f"area_ratio_{name}"] = round((p.sum() / t.sum()).item(), 4)
    return row


def _locator_scores(prob, target):
    peak = prob.flatten(1).argmax(1)
    true = target.flatten(1).argmax(1)
    width = prob.shape[-1]
    away = torch.hypot((peak % width - true % width).float(), (peak // width - true // width).float())
    has = target.flatten(1).amax(1) > 0.5
    top = prob.flatten(1).amax(1)
    return {
        "within_3mm": round((away[has] <= 3).float().mean().item(), 4),
        "confident_with_cord": round((top[has] > 0.5).float().mean().item(), 4),
        "confident_without": round((top[~has] > 0.5).float().mean().item(), 4) if (~has).any() else 0.0,
    }


def _lesion_scores(prob, target):
    """Dice and volume over all patches; the share of lesion patches where anything was found; false voxels."""
    hard, true = prob > 0.5, target > 0.5
    has = true.flatten(1).any(1)
    hit = (hard & true).flatten(1).any(1)
    dice = 2 * (hard & true).sum() / (hard.sum() + true.sum()).clamp(min=1)
    return {
        "dice_LESION": round(dice.item(), 4),
        "area_ratio_LESION": round((hard.sum() / true.sum().clamp(min=1)).item(), 4),
        "patches_hit": round(hit[has].float().mean().item() if has.any() else 0.0, 4),
        "false_share": round(((hard & ~true).sum() / hard.sum().clamp(min=1)).item(), 4),
    }


_SCORES = {"cord": _cord_scores, "locator": _locator_scores, "brain_lesion": _lesion_scores}

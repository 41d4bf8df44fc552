"""Cord and gray matter in axial windows around the cord."""

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor
from torch.nn import functional as F

from sctseg7t.cord.windows_model import check_spec, segment_fractions
from sctseg7t.image.frame import frame_of
from sctseg7t.image.grid import voxel_mm3
from sctseg7t.inference.postprocess import apply, binary
from sctseg7t.runtime import Session
from sctseg7t.simulate import anatomy
from sctseg7t.simulate.anatomy import SPACING_MM
from sctseg7t.simulate.cord import CordBatch, CordSimulator
from sctseg7t.train.real_scans import Case
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.task import Folders, InputShape, Task
from sctseg7t.zoo.spec import ModelSpec

TISSUES = ("SC", "GM")
AREA_WEIGHT = 0.5
# By what errors of an area are divided: the middle of healthy and ill people's cords and gray matter.
AREA_PIXELS = (80.0 / SPACING_MM**2, 12.0 / SPACING_MM**2)


class CordTask(Task):
    """Fractions of cord and gray matter in each pixel."""

    outputs = len(TISSUES)
    labels = TISSUES
    example_model = "cord_gm_sc"
    scan_columns = tuple(f"{measure}_{name}" for name in TISSUES for measure in ("dice", "area_ratio"))

    def data_folders(self, items: Sequence[str]) -> Folders:
        return anatomy.anatomy_folders(items)

    def simulator(self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO) -> CordSimulator:
        bank = anatomy.load_bank(recipe.anatomy, folders, seed=recipe.seed)
        return CordSimulator(bank.without(recipe.held_out), recipe.simulation)

    def unseen(self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO) -> CordSimulator | None:
        """People of the bank that the recipe holds out, and parametric cords of another seed; templates have nobody."""
        if not recipe.held_out:
            return None
        bank = anatomy.load_bank(recipe.anatomy, folders, seed=recipe.seed + 1)
        bank = bank.only([*recipe.held_out, *({"parametric"} & set(recipe.anatomy))])
        settings = {**recipe.simulation, "subject": {}}
        return CordSimulator(bank, settings)

    def input_shape(self, recipe: TrainRecipe) -> InputShape:
        return InputShape(1, (128, 128))

    def loss(self, logits: Tensor, batch: CordBatch) -> Tensor:
        """Cross-entropy, soft Dice and squared error of the area, against partial-volume fractions inside the image.

        The area stands for itself because it is what is followed: where an outline moves by a fifth of a pixel,
        cross-entropy and Dice hardly change. Squared, its optimum is the mean of what may be true: areas are right
        on average, also where GM is hard to see. (The absolute error made them 6 % too small.)
        """
        inside = batch.inside
        bce = F.binary_cross_entropy_with_logits(logits, batch.target, reduction="none")
        weight = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).to(logits.device)
        bce = (bce * inside * weight).sum() / inside.sum()
        prob, target = torch.sigmoid(logits) * inside, batch.target * inside
        overlap = (prob * target).sum((0, 2, 3))
        # Squared soft Dice has its optimum at prob == target, also for fractions.
        total = (prob**2).sum((0, 2, 3)) + (target**2).sum((0, 2, 3))
        dice = (1 - (2 * overlap + 1) / (total + 1)).mean()
        apart = (prob.sum((2, 3)) - target.sum((2, 3))) / torch.tensor(AREA_PIXELS).to(logits.device)
        return bce + dice + AREA_WEIGHT * (apart**2).mean()

    def scores(self, probability: Tensor, target: Tensor) -> dict[str, float]:
        """Of each tissue the mean Dice of the images at one half, and the ratio of all areas."""
        row = {}
        for channel, name in enumerate(TISSUES):
            p, t = probability[:, channel], target[:, channel]
            hard_p, hard_t = p > 0.5, t > 0.5
            dice = 2 * (hard_p & hard_t).sum((1, 2)) / (hard_p.sum((1, 2)) + hard_t.sum((1, 2))).clamp(min=1)
            row[f"dice_{name}"] = round(dice.mean().item(), 4)
            row[f"area_ratio_{name}"] = round((p.sum() / t.sum()).item(), 4)
        return row

    def score_scan(self, case: Case, session: Session, spec: ModelSpec) -> dict[str, float | None]:
        """Dice and area ratio of the final masks, in 3D over the slices where the reference has that tissue."""
        check_spec(spec)
        found = segment_fractions([case.data], frame_of(case.affine), case.centres_vox, session, spec)
        masks = {output.name: binary(found.maps[output.name], output) for output in spec.outputs}
        masks = apply(masks, spec.postprocess, voxel_mm3(case.affine))
        row: dict[str, float | None] = dict.fromkeys(self.scan_columns)
        for name in case.references:
            shown = case.references[name].any((0, 1))
            mask, reference = masks[name][..., shown], case.references[name][..., shown]
            row[f"dice_{name}"] = round(2 * (mask & reference).sum() / (mask.sum() + reference.sum()), 4)
            row[f"area_ratio_{name}"] = round(mask.sum() / reference.sum(), 4)
        return row


TASK = CordTask()

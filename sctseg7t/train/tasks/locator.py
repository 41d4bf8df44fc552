"""Where the cord is in a whole axial slice: a heat map at 1 mm."""

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sctseg7t.cord.locator import locate
from sctseg7t.image.frame import frame_of
from sctseg7t.runtime import Session
from sctseg7t.simulate import anatomy
from sctseg7t.simulate.neck import NeckSimulator
from sctseg7t.simulate.scene import Batch
from sctseg7t.train.real_scans import Case
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.task import Folders, InputShape, Task
from sctseg7t.zoo.spec import ModelSpec


class LocatorTask(Task):
    """A heat map around the cord's centre, empty where there is no cord."""

    example_model = "cord_locator"
    scan_columns = ("median_mm", "within_3mm")

    def data_folders(self, items: Sequence[str]) -> Folders:
        return anatomy.anatomy_folders(items)

    def simulator(self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO) -> NeckSimulator:
        bank = anatomy.load_bank(recipe.anatomy, folders, seed=recipe.seed)
        return NeckSimulator(bank, recipe.simulation)

    def input_shape(self, recipe: TrainRecipe) -> InputShape:
        return InputShape(1, (64, 96), free=True)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy against the heat map, weighted where the cord is."""
        bce = F.binary_cross_entropy_with_logits(logits, batch.target, reduction="none")
        return (bce * (1 + 12 * batch.target)).mean()

    def scores(self, probability: Tensor, target: Tensor) -> dict[str, float]:
        """Share of peaks within 3 mm of the cord, and of confident peaks with a cord and without."""
        peak = probability.flatten(1).argmax(1)
        true = target.flatten(1).argmax(1)
        width = probability.shape[-1]
        away = torch.hypot((peak % width - true % width).float(), (peak // width - true // width).float())
        has = target.flatten(1).amax(1) > 0.5
        top = probability.flatten(1).amax(1)
        return {
            "within_3mm": round((away[has] <= 3).float().mean().item(), 4),
            "confident_with_cord": round((top[has] > 0.5).float().mean().item(), 4),
            "confident_without": round((top[~has] > 0.5).float().mean().item(), 4) if (~has).any() else 0.0,
        }

    def score_scan(self, case: Case, session: Session, spec: ModelSpec) -> dict[str, float | None]:
        """Median distance from the reference's centre (None: no cord found), and the share of slices within 3 mm."""
        path = locate(case.data, case.affine, session, spec)
        if path is None:
            return {"median_mm": None, "within_3mm": 0.0}
        away = frame_of(case.affine).mm_between(path.centres_vox, case.centres_vox)[case.marked]
        return {"median_mm": round(float(np.median(away)), 3), "within_3mm": round(float((away <= 3).mean()), 4)}


TASK = LocatorTask()

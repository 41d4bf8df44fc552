"""Validation of the averaged network: on images held out of training, and on further real scans.

The held-out images choose the weights that are kept: simulated ones, or those of a split's validation part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch

from sctseg7t.runtime import Session
from sctseg7t.train import checkpoint, curves
from sctseg7t.train.device import Place
from sctseg7t.train.real_scans import Case, TorchSession, mean_of
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.run_folder import State
from sctseg7t.train.task import Batch, BatchSource, Task
from sctseg7t.zoo.spec import ModelSpec

VALIDATION_SEED = 10_000_000


@runtime_checkable
class Exhaustible(Protocol):
    """A source that can give each of its images once."""

    def every(self, count: int) -> list[Any]:
        """All images in batches of ``count``; none where they are made anew at each draw."""
        ...


def held_out(source: BatchSource, recipe: TrainRecipe) -> list[Batch]:
    """The batches that a run is validated on, the same at every validation: of labelled scans all there are."""
    batches = source.every(recipe.batch) if isinstance(source, Exhaustible) else []
    if batches:
        return batches
    count = max(1, recipe.validation_images // recipe.batch)
    return [source.batch(recipe.batch, VALIDATION_SEED + k) for k in range(count)]


def validate(network: torch.nn.Module, batches: Sequence[Batch], task: Task, place: Place) -> dict[str, float]:
    """Mean loss of the batches and the task's scores over all their images."""
    losses, prob, target = [], [], []
    with torch.no_grad():
        for batch in batches:
            batch = place.batch(batch)
            logits, inside = network(batch.image), getattr(batch, "inside", 1)
            losses.append(task.loss(logits, batch).item())
            prob.append((torch.sigmoid(logits) * inside).cpu())
            target.append((batch.target * inside).cpu())
    return {"loss": round(sum(losses) / len(losses), 5), **task.scores(torch.cat(prob), torch.cat(target))}


@dataclass(frozen=True, eq=False)
class Validator:
    """Writes the rows of ``curves.csv`` and ``real.csv``, and keeps the best weights in ``model.pt``.

    Attributes
    ----------
    out : Path
        Run folder.
    batches : list of Batch
        Simulated and held out.
    spec : ModelSpec
        By which the real scans are segmented.
    cases : list of Case
        Real scans, measured at every ``cases_every``-th validation and at the last.
    chooses : bool
        Whether the best weights are kept; else the last, since the batches are those of the training.
    """

    out: Path
    recipe: TrainRecipe
    task: Task
    place: Place
    batches: Sequence[Batch]
    spec: ModelSpec
    cases: Sequence[Case] = ()
    cases_every: int = 1
    chooses: bool = True

    def validate(self, state: State) -> list[str]:
        """Validate the averaged network; what there is to tell, a line each."""
        done, recipe = state.step, self.recipe
        scores = {"train_loss": round(state.running.item(), 5)}
        scores |= validate(state.average, self.batches, self.task, self.place)
        curves.append(self.out / curves.SIMULATED, [{"step": done, "seconds": round(state.seconds), **scores}])
        said = [f"step {done}: {_told(scores)}"]
        if scores["loss"] <= state.best or not self.chooses:
            state.best = scores["loss"]
            checkpoint.save(state.average.state_dict(), self.out / checkpoint.WEIGHTS)
            said[0] += "  best so far" if self.chooses else ""
        log_scores(self.out, done, scores, recipe)
        count = -(-done // recipe.validate_every)
        if self.cases and (count % self.cases_every == 0 or done == recipe.steps):
            session = cast(Session, TorchSession(state.average, self.place))
            rows = [{"scan": case.name, **self.task.score_scan(case, session, self.spec)} for case in self.cases]
            curves.append(self.out / curves.REAL, [{"step": done, **row} for row in rows])
            said.append(f"step {done}: real scans (n = {len(rows)}): {_told(mean_of(rows))}")
        return said


def log_scores(out: Path, step: int, scores: dict[str, float], recipe: TrainRecipe) -> None:
    """Scores for TensorBoard, where that package is installed: events in ``out/tensorboard``."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return
    with SummaryWriter(str(out / "tensorboard")) as writer:
        for name, value in (*scores.items(), ("learning_rate", recipe.learning_rate_at(step))):
            writer.add_scalar(name, value, step)


def _told(row: dict[str, float]) -> str:
    return "  ".join(f"{name} {value}" for name, value in row.items())

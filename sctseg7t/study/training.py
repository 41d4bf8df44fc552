"""The training of a cell, and what it would be shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from sctseg7t.files import write_json
from sctseg7t.study.cell_run import RUN
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.scans.learning import Learning

if TYPE_CHECKING:
    from sctseg7t.study.cell_run import CellWork

# Of what is made ready once for all trainings: brains on their grids, simulated ones, deformation fields.
_PREPARED = "prepared"


def train_cell(work: CellWork, log: TextIO) -> dict[str, Any]:
    """Train a cell, going on where it was stopped, and export it.

    Parameters
    ----------
    work : CellWork
    log : text stream

    Returns
    -------
    dict
        ``onnx``: path of the network, its entry beside it; and what the record keeps of the training.
    """
    from sctseg7t.train.export import export
    from sctseg7t.train.loop import train
    from sctseg7t.train.task import task_of

    recipe, start = whole_recipe(work)
    out = work.folder / RUN
    train(
        recipe,
        task_of(recipe).data_folders(work.data),
        out,
        device=work.device,
        precision=work.precision,
        threads=work.threads,
        start=start,
        learning=_learning(work),
        store=_store(work),
        log=log,
    )
    path = export(out)
    return {"onnx": path, "steps": recipe.steps, **_trained(recipe)}


def whole_recipe(work: CellWork) -> tuple[TrainRecipe, str | None]:
    """The complete recipe of a cell, and what it starts from: the network of a source, or what was named."""
    from sctseg7t.train.fine_tuning import planned, whole_recipe
    from sctseg7t.train.recipe import read_recipe
    from sctseg7t.train.starting import load_start

    path = write_json(work.folder / "recipe.json", work.recipe)
    if work.recipe.get("task", "scans") != "scans":
        return read_recipe(path), None
    start = work.start
    if start and (Path(start) / RUN).is_dir():
        start = str(Path(start) / RUN)
    recipe = whole_recipe(path, load_start(start) if start else None)
    return planned(recipe, work.split.scans("train", work.scans)), start


def _learning(work: CellWork) -> Learning | None:
    """The scans of a cell's people; nobody else's are made ready."""
    people = {*work.split.train, *work.split.validation, *work.split.test}
    scans = [
        replace(scan, masks={name: path for name, path in scan.masks.items() if name in work.labels})
        for scan in work.scans
        if scan.subject in people
    ]
    scans = [scan for scan in scans if scan.masks]
    return Learning(scans, work.split, "study", _store(work)) if scans else None


def _store(work: CellWork) -> Path:
    """Folder of what is made ready once for all trainings of a study."""
    return work.folder.parents[1] / _PREPARED


def _trained(recipe: TrainRecipe) -> dict[str, Any]:
    """Size of the network, and the share of it that learns."""
    from sctseg7t.train.named_networks import count_parameters
    from sctseg7t.train.strategies import freeze
    from sctseg7t.train.task import task_of

    network = task_of(recipe).network(recipe)
    if recipe.strategy:
        freeze(network, recipe.strategy)
    learning = sum(p.numel() for p in set(network.parameters()) if p.requires_grad)
    total = count_parameters(network)
    return {"parameters": total, "trainable": round(learning / total, 4)}


def draw_sheets(works: Sequence[CellWork], out: Path) -> Iterator[Path]:
    """A contact sheet of each augmentation of a study, as its first cell with it would be shown."""
    import sys

    from sctseg7t.train.augment.sheet import contact_sheet
    from sctseg7t.train.task import task_of
    from sctseg7t.train.tasks.scans import MARGIN, ScanSource

    first = {str(work.recipe.get("augmentation", "none")): work for work in reversed(works) if work.recipe}
    for name, work in sorted(first.items()):
        work.folder.mkdir(parents=True, exist_ok=True)
        recipe, _ = whole_recipe(work)
        task = task_of(recipe)
        source, _ = task.sources(recipe, task.data_folders(work.data), out, sys.stderr, _learning(work))
        assert isinstance(source, ScanSource)
        assert source.items is not None
        yield contact_sheet(
            source.items, source.augment, out / f"sheet_{name}.png", name, margin=MARGIN[len(source.items.size)]
        )

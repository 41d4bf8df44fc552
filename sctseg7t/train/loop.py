"""The training loop: batches in, checkpoints and curves out.

By default the learning rate is held and then falls linearly to zero (warm-up, stable, decay), so a run
can be shortened or lengthened by its ``steps`` alone until the fall begins. Each step draws its
batch from a seed of its own (:meth:`TrainRecipe.stream`): a resumed run sees the batches that an unbroken one would.
"""

import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from sctseg7t.errors import InputError
from sctseg7t.train import curves, strategies
from sctseg7t.train.checkpoint import STATE, WEIGHTS
from sctseg7t.train.device import Place, choose_place
from sctseg7t.train.manifest_entry import spec_in_training
from sctseg7t.train.networks import update_average
from sctseg7t.train.progress import Progress, Stopped, stop_requests
from sctseg7t.train.real_scans import prepare
from sctseg7t.train.recipe import STRATEGIES, TrainRecipe
from sctseg7t.train.run_folder import PROBE, State, claim, ended_early, open_state
from sctseg7t.train.scans.labelled import LabelledScan
from sctseg7t.train.scans.learning import Learning
from sctseg7t.train.task import BatchSource, Folders, Task, task_of
from sctseg7t.train.validation import Validator, held_out

# Steps between two reports of progress beside those of the validations.
_REPORT_EVERY = 50
# A machine that fails costs no more than this.
_SAVE_SECONDS = 300


def train(
    recipe: TrainRecipe,
    folders: Folders,
    out: str | Path,
    *,
    device: str = "cpu",
    precision: str = "auto",
    threads: int | None = None,
    start: str | Path | None = None,
    scans: Sequence[LabelledScan] = (),
    scans_every: int = 1,
    learning: Learning | None = None,
    store: Path | None = None,
    log: TextIO = sys.stderr,
) -> Path:
    """Train to ``recipe.steps``, resuming from ``out/last.pt`` when it is there.

    Writes ``recipe.json``, ``run.json`` (sittings: device, precision, versions), ``curves.csv``, ``curves.png``,
    ``last.pt`` (everything) and ``model.pt`` (the averaged weights of the best validation;
    without images to validate on, the last),
    and with scans ``real.csv``. Ctrl-C and SIGTERM end it after the step at hand, its state saved; every five minutes
    it is saved as well.

    Parameters
    ----------
    recipe : TrainRecipe
    folders : dict of str to path
        Of each source, see :meth:`sctseg7t.train.task.Task.data_folders`.
    out : path
        Run folder.
    device, precision, threads
        As for :func:`sctseg7t.train.device.choose_place`. No part of the run's identity: a sitting may change them.
    start : path, optional
        Run folder, ``.pt`` or ``.onnx`` file, or model of the zoo whose weights the run starts from (fine-tuning).
    scans : list of LabelledScan
        Real scans to measure the averaged network on. They never choose the weights.
    scans_every : int
        Measure at every so many-th validation, and at the last.
    learning : Learning, optional
        Labelled scans to learn from, of tasks that do: their validation part chooses the weights.
    store : path, optional
        Folder of what several runs share, such as simulated brains. Default: the one that the run's folder is in.

    Returns
    -------
    Path
        ``out/model.pt``.

    Raises
    ------
    InputError
        The folder holds a run of another recipe or damaged files, starting weights do not fit, a scan cannot be
        used, or the loss is no number any more.
    OutputError
        The folder cannot be written to, or another training is at work in it.
    DeviceError
        torch cannot use the device.
    Stopped
        A signal ended the run early.
    """
    task = task_of(recipe)
    if scans and not task.scan_columns:
        raise InputError(f"a network of the task {recipe.task} cannot be measured on real scans yet; give no scans")
    place = choose_place(device, precision, threads)
    out = Path(out)
    with claim(out):
        state = open_state(out, recipe, task, place, start, [scan.name for scan in scans], learning)
        for line in (*state.told, *strategies.told(state.network, recipe.network.get("kind"), recipe.strategy)):
            print(line, file=log)
        print(f"{place.device}, {place.precision}, from step {state.step} of {recipe.steps}", file=log, flush=True)
        if state.step < recipe.steps and not ended_early(out, recipe):
            spec = spec_in_training(recipe)
            # First: a scan that cannot be used should not cost the minutes that the anatomy takes.
            cases = [prepare(scan, spec) for scan in scans]
            source, unseen = task.sources(recipe, folders, store or out.resolve().parent, log, learning)
            batches, chooses = held_out(unseen, recipe), not learning or bool(learning.part("validation"))
            if learning:
                # What the export compares torch and ONNX Runtime on.
                np.save(out / PROBE, batches[0].image[:1].numpy())
            if not chooses:
                print("nobody is in the validation part: the last weights are kept", file=log, flush=True)
            validator = Validator(out, recipe, task, place, batches, spec, cases, scans_every, chooses)
            _run(source, state, validator, log)
    return out / WEIGHTS


def batches_ahead(
    source: BatchSource, recipe: TrainRecipe, first: int, workers: int = 1, stream: int = 0
) -> Iterator[tuple[int, Any]]:
    """Steps from ``first`` on and their batches, in order; the next are simulated while one is in use."""
    pool, ahead, following = ThreadPoolExecutor(workers), deque(), first
    try:
        for step in range(first, recipe.steps):
            while following < recipe.steps and len(ahead) <= workers:
                ahead.append(pool.submit(source.batch, recipe.batch, stream + following))
                following += 1
            yield step, ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _run(source: BatchSource, state: State, validator: Validator, log: TextIO) -> None:
    """Steps from the state's to the last."""
    recipe, task, place, out = validator.recipe, validator.task, validator.place, validator.out
    begun, saved = time.time() - state.seconds, time.time()
    progress = Progress(log, recipe.steps, state.step)
    with progress.bar, stop_requests() as asked:
        for step, batch in batches_ahead(source, recipe, state.step, place.workers, state.stream):
            loss = _learn(state, place.batch(batch), step, recipe, place, task)
            # On the device, in double precision: reading every loss would make a GPU wait.
            state.running = loss if not state.step else 0.98 * state.running + 0.02 * loss
            state.step = done = step + 1
            progress.bar.update()
            due, stop = done % recipe.validate_every == 0 or done == recipe.steps, bool(asked)
            late = time.time() - saved > _SAVE_SECONDS
            if not (due or stop or late or done % _REPORT_EVERY == 0):
                continue
            running = state.running.item()
            if not math.isfinite(running):
                raise InputError(
                    f"{out}: the loss is no number any more at step {done}; "
                    f"take a learning_rate below {recipe.learning_rate} in another folder"
                )
            progress.report(running)
            state.seconds = time.time() - begun
            said = validator.validate(state) if due else []
            if due or stop or late:
                state.save(out)
                saved = time.time()
            for text in said:
                progress.say(text)
            if due:
                curves.draw(out, recipe)
                if done < recipe.steps and ended_early(out, recipe):
                    progress.say(f"no lower loss in {recipe.patience} validations: ended at step {done}")
                    return
            if stop and done < recipe.steps:
                raise Stopped(
                    f"stopped after step {done} of {recipe.steps}; {out / STATE} holds the state: "
                    "the same command goes on from there",
                    asked[0],
                )


def _learn(state: State, batch: Any, step: int, recipe: TrainRecipe, place: Place, task: Task) -> torch.Tensor:
    """One step of the optimiser; the loss as a tensor of double precision."""
    for group in state.optimiser.param_groups:
        group["lr"] = recipe.learning_rate_at(step)
    state.network.train()
    if recipe.strategy and STRATEGIES[recipe.strategy].starts:
        strategies.keep_statistics(state.network)
    with place.products():
        logits = state.network(batch.image)
    loss = task.loss(logits.float(), batch)
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 5.0)
    state.optimiser.step()
    update_average(state.average, state.network, min(recipe.ema, (step + 1) / (step + 20)))
    return loss.detach().double()

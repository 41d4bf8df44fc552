"""The training loop: simulated batches in, checkpoints and curves out.

The learning rate is held and then falls linearly to zero (warm-up, stable, decay), so a run
can be shortened or lengthened by its ``steps`` alone until the fall begins. Step ``k`` draws its
batch from seed ``seed + k``: a resumed run sees the batches that an unbroken one would.
"""

import json
import math
import platform
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from sctseg7t.errors import InputError
from sctseg7t.files import write_bytes, write_json
from sctseg7t.train import checkpoint, curves, real
from sctseg7t.train.checkpoint import STATE, WEIGHTS
from sctseg7t.train.device import place as settle
from sctseg7t.train.entry import spec_in_training
from sctseg7t.train.losses import loss_of
from sctseg7t.train.network import UNet, count_parameters
from sctseg7t.train.progress import Progress, Stopped, duration, stop_requests
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.validate import held_out, validate
from sctseg7t.version import __version__

# Drawing takes about a second; runs whose validations come faster than this skip some.
_DRAW_SECONDS = 30

__all__ = ["TrainRecipe", "make_network", "make_simulator", "train"]


def make_simulator(recipe, folders, out=None, log=sys.stderr):
    """The simulator that the recipe's task trains on; brains are simulated into a bank beside the run folder."""
    if recipe.task == "brain_lesion":
        from sctseg7t.simulate.brain.patches import make_brain_simulator

        return make_brain_simulator(recipe.simulation, folders, Path(out or ".").resolve().parent, log)
    from sctseg7t.simulate.anatomy import load_bank
    from sctseg7t.simulate.cord import CordSimulator
    from sctseg7t.simulate.neck import NeckRecipe, NeckSimulator

    bank = load_bank(recipe.anatomy, folders, seed=recipe.seed)
    if recipe.task == "cord":
        return CordSimulator(bank, recipe.simulation)
    if recipe.task == "locator":
        return NeckSimulator(bank, NeckRecipe.from_dict(recipe.simulation))
    raise InputError(f"recipe task {recipe.task!r} is unknown; use cord or locator")


def make_network(recipe):
    """The untrained network of a recipe."""
    if recipe.task == "brain_lesion":
        return _brain_network(recipe)
    options = {"outputs": 2 if recipe.task == "cord" else 1, **recipe.network}
    try:
        return UNet(**options)
    except TypeError as err:
        raise InputError(
            f"recipe of {recipe.model}: its network cannot be built ({err}); give widths and fold"
        ) from err


def _brain_network(recipe):
    from sctseg7t.train.network3d import MPUNetPP, UNet3d

    options = dict(recipe.network)
    kinds = {"unet3d": UNet3d, "mpunetpp": MPUNetPP}
    kind = options.pop("kind", "unet3d")
    if kind not in kinds:
        raise InputError(f"recipe of {recipe.model}: network kind {kind!r} is unknown; use {', '.join(kinds)}")
    try:
        return kinds[kind](inputs=len(brain_channels(recipe)), **options)
    except TypeError as err:
        raise InputError(f"recipe of {recipe.model}: its network cannot be built ({err})") from err


def brain_channels(recipe):
    """Input channels of a brain network's recipe, by name."""
    return tuple(recipe.simulation.get("channels", ("FLAIR", "prior_GM", "prior_WM")))


@dataclass(eq=False)
class _State:
    """Everything that a step changes, and the weights that the run started from (sha256)."""

    network: torch.nn.Module
    average: torch.nn.Module
    optimiser: torch.optim.Optimizer
    step: int = 0
    best: float = math.inf
    seconds: float = 0.0
    running: object = None
    start: str | None = None


def train(
    recipe,
    folders,
    out,
    *,
    device="cpu",
    precision="auto",
    threads=None,
    start=None,
    scans=(),
    scans_every=1,
    report_every=50,
    log=sys.stderr,
):
    """Train to ``recipe.steps``, resuming from ``out/last.pt`` when it is there.

    Writes ``recipe.json``, ``run.json`` (sittings: device, precision, versions), ``curves.csv``, ``curves.png``,
    ``last.pt`` (everything) and ``model.pt`` (the averaged weights of the best validation on simulated images),
    and with scans ``real.csv``. Ctrl-C and SIGTERM end it after the step at hand, its state saved.

    Parameters
    ----------
    recipe : TrainRecipe
    folders : dict of str to path
        Of each anatomy source.
    out : path
        Run folder.
    device, precision, threads
        As for :func:`sctseg7t.train.device.place`. No part of the run's identity: a sitting may change them.
    start : path, optional
        Run folder or ``.pt`` file whose averaged weights the run starts from (fine-tuning).
    scans : list of LabelledScan
        Real scans to measure the averaged network on. They never choose the weights.
    scans_every : int
        Measure at every so many-th validation, and at the last.
    report_every : int
        Steps between two lines of progress.

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
    if scans and recipe.task == "brain_lesion":
        raise InputError("-val: real scans are measured for cord models only; leave it out for a brain model")
    place = settle(device, precision, threads)
    out = Path(out)
    with checkpoint.claim(out):
        state = _open(recipe, out, place, start)
        _record(recipe, out, place, state, start, scans)
        progress = Progress(log, recipe.steps, state.step, recipe.batch, report_every)
        size = f"{count_parameters(state.network)} parameters, {place.device}, {place.precision}"
        progress.say(f"{size}, from step {state.step} of {recipe.steps}")
        artist = _Artist(out, recipe, progress)
        if not (out / curves.PICTURE).exists():
            artist.draw()
        if state.step < recipe.steps:
            spec = spec_in_training(recipe) if scans else None
            # First: a scan that cannot be used should not cost the minutes that the anatomy takes.
            cases = real.prepare(scans, spec)
            simulator = make_simulator(recipe, folders, out, log)
            jury = _Jury(recipe, place, held_out(simulator, recipe), cases, spec, scans_every)
            _run(recipe, simulator, state, jury, out, progress, artist)
        artist.draw()
    return out / WEIGHTS


def _run(recipe, simulator, state, jury, out, progress, artist):
    """Steps from the state's to the last."""
    place, measure = jury.place, loss_of(recipe.task)
    begun = time.time() - state.seconds
    progress.begun = time.monotonic()
    with stop_requests() as asked:
        for step, batch in _simulated(simulator, recipe, state.step, place.workers):
            loss = _learn(state, place.batch(batch), step, recipe, place, measure)
            # On the device, in double precision: reading every loss would make a GPU wait.
            state.running = loss if state.running is None else 0.98 * state.running + 0.02 * loss
            state.step = done = step + 1
            due, stop = done % recipe.validate_every == 0 or done == recipe.steps, bool(asked)
            if due or stop or progress.due(done):
                _check_loss(state, recipe, out)
                state.seconds = time.time() - begun
            if progress.due(done):
                progress.report(done, state.running.item())
            said = jury.judge(state, out) if due else []
            if due or stop:
                _save(state, recipe, out)
            for text in said:
                progress.say(f"{text}  {duration(progress.left(done))} left")
            if due:
                artist.draw(least=_DRAW_SECONDS)
            if stop and done < recipe.steps:
                artist.draw()
                raise Stopped(
                    f"stopped after step {done} of {recipe.steps}; {out / STATE} holds the state: "
                    "the same command goes on from there",
                    asked[0],
                )


def _learn(state, batch, step, recipe, place, measure):
    """One step of the optimiser; the loss as a tensor of double precision."""
    for group in state.optimiser.param_groups:
        group["lr"] = recipe.learning_rate * _schedule(step, recipe)
    state.network.train()
    with place.products():
        logits = state.network(batch.image)
    loss = measure(logits.float(), batch)
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 5.0)
    state.optimiser.step()
    _average(state.average, state.network, min(recipe.ema, (step + 1) / (step + 20)))
    return loss.detach().double()


class _Jury:
    """Validates the averaged network; keeps the best weights by simulated images alone."""

    def __init__(self, recipe, place, batches, cases, spec, scans_every):
        self.recipe, self.place, self.batches = recipe, place, batches
        self.cases, self.spec, self.scans_every = cases, spec, scans_every

    def judge(self, state, out):
        """Add a row to ``curves.csv``, perhaps some to ``real.csv``, and keep the weights if they are the best.

        Returns
        -------
        list of str
            What there is to tell.
        """
        done, recipe = state.step, self.recipe
        row = {"step": done, "seconds": round(state.seconds), "train_loss": round(state.running.item(), 5)}
        row |= validate(state.average, self.batches, recipe, self.place)
        curves.append(out / curves.SIMULATED, [row])
        said = f"step {done}: {_told(row, ('step', 'seconds'))}"
        if row["loss"] <= state.best:
            state.best = row["loss"]
            checkpoint.save(state.average.state_dict(), out / WEIGHTS)
            said += "  best so far"
        count = -(-done // recipe.validate_every)
        if not self.cases or (count % self.scans_every and done < recipe.steps):
            return [said]
        rows = real.evaluate(self.cases, state.average, self.spec, self.place)
        curves.append(out / curves.REAL, [{"step": done, **row} for row in rows])
        return [said, f"step {done}: real scans (n = {len(rows)}): {_told(real.mean_of(rows))}"]


class _Artist:
    """Draws the curves now and then; says once if it cannot."""

    def __init__(self, out, recipe, progress):
        self.out, self.recipe, self.progress = out, recipe, progress
        self.able, self.last = True, time.monotonic()

    def draw(self, least=0):
        """Draw unless that was done less than ``least`` seconds ago."""
        if not self.able or time.monotonic() - self.last < least:
            return
        self.last = time.monotonic()
        try:
            curves.draw(self.out, lambda step: self.recipe.learning_rate * _schedule(step, self.recipe))
        except Exception as err:  # noqa: BLE001
            # A picture must never cost a training.
            self.able = False
            reason = " ".join(f"{type(err).__name__}: {err}".split())
            self.progress.say(f"no {curves.PICTURE} is drawn ({reason}); the numbers are in {curves.SIMULATED}")


def _open(recipe, out, place, start):
    """The state that a run begins or goes on with."""
    torch.manual_seed(recipe.seed)
    network = place.network(make_network(recipe))
    average = place.network(make_network(recipe)).eval()
    weights, path, sha256 = checkpoint.starting_weights(start) if start else (None, None, None)
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    state = _State(network, average, optimiser, start=sha256)
    if (out / STATE).exists():
        for name, value in checkpoint.resume(out, recipe, network, average, optimiser, sha256).items():
            setattr(state, name, value)
        if state.running is not None:
            state.running = torch.tensor(state.running, dtype=torch.float64, device=place.device)
    else:
        _check_empty(recipe, out)
        if start:
            checkpoint.fit(network, weights, path, "give the recipe the network of those weights")
        average.load_state_dict(network.state_dict())
    # What was written after the last saved state will be written again.
    for name in (curves.SIMULATED, curves.REAL):
        curves.drop_after(out / name, state.step)
    return state


def _check_empty(recipe, out):
    """Refuse a folder with the weights of another recipe and no state to go on from."""
    if (out / WEIGHTS).exists() and (out / "recipe.json").exists():
        try:
            same = json.loads((out / "recipe.json").read_text()) == json.loads(json.dumps(asdict(recipe)))
        except ValueError:
            same = False
        if not same:
            raise InputError(f"{out}: holds a run of another recipe; choose another folder")


def _record(recipe, out, place, state, start, scans):
    """Write the recipe, and a line of ``run.json`` on this sitting."""
    write_bytes(out / "recipe.json", json.dumps(asdict(recipe), indent=2).encode())
    told = {"start": None, "sittings": []}
    if state.step:
        try:
            told |= json.loads((out / "run.json").read_text())
        except (OSError, ValueError):
            pass
    if start and not told["start"]:
        told["start"] = {"path": str(start), "sha256": state.start}
    if state.step >= recipe.steps:
        return
    told["sittings"].append(
        {
            "begun": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "from_step": state.step,
            "device": str(place.device),
            "device_kind": place.kind,
            "precision": place.precision,
            "threads": torch.get_num_threads(),
            "simulating": place.workers,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "tool_version": __version__,
            "real_scans": [scan.name for scan in scans],
        }
    )
    write_json(out / "run.json", told)


def _save(state, recipe, out):
    parts = {name: getattr(state, name).state_dict() for name in ("network", "average", "optimiser")}
    kept = {name: getattr(state, name) for name in ("step", "best", "seconds", "start")}
    checkpoint.save({**kept, "running": state.running.item(), "recipe": asdict(recipe), **parts}, out / STATE)


def _check_loss(state, recipe, out):
    if not math.isfinite(state.running.item()):
        raise InputError(
            f"{out}: the loss is no number any more at step {state.step}; "
            f"take a learning_rate below {recipe.learning_rate} in another folder"
        )


def _simulated(simulator, recipe, first, workers=1):
    """Steps and their batches, in order; the next ones are simulated while this one trains."""
    pool, ahead, following = ThreadPoolExecutor(workers), deque(), first
    try:
        for step in range(first, recipe.steps):
            while following < recipe.steps and len(ahead) <= workers:
                ahead.append(pool.submit(simulator.batch, recipe.batch, recipe.seed + following))
                following += 1
            yield step, ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _schedule(step, recipe):
    warm = min(1.0, (step + 1) / max(recipe.warmup, 1))
    fall = (recipe.steps - step) / max(recipe.decay * recipe.steps, 1)
    return min(warm, fall, 1.0)


def _average(average, network, keep):
    """Exponential moving average of weights and batch statistics."""
    with torch.no_grad():
        for a, b in zip(average.state_dict().values(), network.state_dict().values()):
            if a.is_floating_point():
                a.mul_(keep).add_(b, alpha=1 - keep)
            else:
                a.copy_(b)


def _told(row, but=()):
    return "  ".join(f"{name} {value}" for name, value in row.items() if name not in but)

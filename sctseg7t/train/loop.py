"""The training loop: simulated batches in, checkpoints and curves out.

The learning rate is held and then falls linearly to zero (warm-up, stable, decay), so a run
can be shortened or lengthened by its ``steps`` alone until the fall begins. Step ``k`` draws its
batch from seed ``seed + k``: a resumed run sees the batches that an unbroken one would.
"""

import csv
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
from torch.nn import functional as F

from sctseg7t.errors import DeviceError, InputError
from sctseg7t.train.network import UNet, count_parameters

VALIDATION_SEED = 10_000_000


@dataclass(frozen=True)
class TrainRecipe:
    """What a recipe file says. ``task`` is ``cord`` or ``locator``."""

    model: str
    task: str
    anatomy: list
    steps: int = 3000
    batch: int = 16
    learning_rate: float = 2.5e-3
    warmup: int = 100
    decay: float = 0.35
    weight_decay: float = 1e-4
    ema: float = 0.997
    seed: int = 7
    validate_every: int = 250
    validation_images: int = 96
    network: dict = field(default_factory=dict)
    simulation: dict = field(default_factory=dict)

    @classmethod
    def read(cls, path):
        """Read a recipe; InputError on an unreadable file, or an unknown or missing name."""
        try:
            values = json.loads(Path(path).read_text())
        except (OSError, ValueError) as err:
            raise InputError(f"{path}: not a readable JSON recipe ({err})") from err
        if not isinstance(values, dict):
            raise InputError(f"{path}: not a recipe; a recipe is a JSON object with model, task and anatomy")
        wrong = sorted(set(values) - {f.name for f in fields(cls)})
        if wrong:
            raise InputError(f"{path}: unknown name {wrong[0]!r} in the recipe")
        missing = [name for name in ("model", "task", "anatomy") if name not in values]
        if missing:
            raise InputError(f"{path}: the recipe lacks {missing[0]!r}")
        return cls(**values)


def make_simulator(recipe, folders):
    """The simulator that the recipe's task trains on."""
    from sctseg7t.simulate.anatomy import load_bank
    from sctseg7t.simulate.cord import CordRecipe, CordSimulator
    from sctseg7t.simulate.neck import NeckRecipe, NeckSimulator

    bank = load_bank(recipe.anatomy, folders, seed=recipe.seed)
    if recipe.task == "cord":
        return CordSimulator(bank, CordRecipe.from_dict(recipe.simulation))
    if recipe.task == "locator":
        return NeckSimulator(bank, NeckRecipe.from_dict(recipe.simulation))
    raise InputError(f"recipe task {recipe.task!r} is unknown; use cord or locator")


def make_network(recipe):
    """The untrained network of a recipe."""
    options = {"outputs": 2 if recipe.task == "cord" else 1, **recipe.network}
    try:
        return UNet(**options)
    except TypeError as err:
        raise InputError(
            f"recipe of {recipe.model}: its network cannot be built ({err}); give widths and fold"
        ) from err


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


def train(recipe, folders, out, *, device="cpu", threads=None, log=sys.stderr):
    """Train to ``recipe.steps``, resuming from ``out/last.pt`` when it is there.

    Writes ``recipe.json``, ``curves.csv``, ``last.pt`` (everything) and ``model.pt`` (the averaged
    weights of the best validation).

    Raises
    ------
    InputError
        The folder holds a run of another recipe.
    DeviceError
        torch cannot use the device.
    """
    _check_device(device)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    simulator = make_simulator(recipe, folders)
    # Channels-last convolutions take two thirds of the time on CPU, and suit tensor cores.
    network = make_network(recipe).to(device, memory_format=torch.channels_last)
    average = make_network(recipe).to(device, memory_format=torch.channels_last).eval()
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    state = {"step": 0, "best": float("inf"), "seconds": 0.0}
    if (out / "last.pt").exists():
        state = _resume(out, recipe, network, average, optimiser)
    _write(out / "recipe.json", json.dumps(asdict(recipe), indent=2).encode())
    held_out = _batches(simulator, recipe)
    print(f"{count_parameters(network)} parameters, from step {state['step']} of {recipe.steps}", file=log, flush=True)
    begun, first = time.time() - state["seconds"], state["step"]
    loss_of = loss_cord if recipe.task == "cord" else loss_locator
    running, started = 0.0, time.time()
    for step, batch in _simulated(simulator, recipe, state["step"]):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, recipe)
        batch = _to(batch, device)
        network.train()
        loss = loss_of(network(batch.image), batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        _average(average, network, min(recipe.ema, (step + 1) / (step + 20)))
        running = loss.item() if step == first else 0.98 * running + 0.02 * loss.item()
        done = step + 1
        if done % recipe.validate_every == 0 or done == recipe.steps:
            row = {"step": done, "seconds": round(time.time() - begun), "train_loss": round(running, 5)}
            row |= _validate(average, held_out, recipe, device)
            state = {"step": done, "best": min(state["best"], row["loss"]), "seconds": time.time() - begun}
            _append(out / "curves.csv", row)
            if row["loss"] <= state["best"]:
                _save(average.state_dict(), out / "model.pt")
            _save(
                {
                    **state,
                    "recipe": asdict(recipe),
                    "network": network.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                },
                out / "last.pt",
            )
            left = (time.time() - started) / (done - first) * (recipe.steps - done)
            print(f"{row}  {left / 60:.0f} min left", file=log, flush=True)
    return out / "model.pt"


def _check_device(device):
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as err:
        reason = str(err).strip().splitlines()[0]
        raise DeviceError(f"-device {device}: torch cannot use it ({reason}); use -device cpu") from err


def _simulated(simulator, recipe, first):
    """Steps and their batches; the next batch is simulated while this one trains."""
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(simulator.batch, recipe.batch, recipe.seed + first)
        for step in range(first, recipe.steps):
            batch = ahead.result()
            ahead = pool.submit(simulator.batch, recipe.batch, recipe.seed + step + 1)
            yield step, batch


def _schedule(step, recipe):
    warm = min(1.0, (step + 1) / max(recipe.warmup, 1))
    fall = (recipe.steps - step) / max(recipe.decay * recipe.steps, 1)
    return min(warm, fall, 1.0)


def _resume(out, recipe, network, average, optimiser):
    saved = torch.load(out / "last.pt", map_location="cpu", weights_only=True)
    old, new = dict(saved["recipe"]), asdict(recipe)
    # Only the length may change, and only before the learning rate began to fall.
    old_fall = old["steps"] * (1 - old["decay"])
    lengths = ("steps", "decay")
    same = all(old.get(k) == new[k] for k in new if k not in lengths)
    if not same or (any(old[k] != new[k] for k in lengths) and saved["step"] > old_fall):
        raise InputError(f"{out}: holds a run of another recipe; choose another folder")
    network.load_state_dict(saved["network"])
    average.load_state_dict(saved["average"])
    optimiser.load_state_dict(saved["optimiser"])
    return {k: saved[k] for k in ("step", "best", "seconds")}


def _average(average, network, keep):
    """Exponential moving average of weights and batch statistics."""
    with torch.no_grad():
        for a, b in zip(average.state_dict().values(), network.state_dict().values()):
            if a.is_floating_point():
                a.mul_(keep).add_(b, alpha=1 - keep)
            else:
                a.copy_(b)


def _batches(simulator, recipe):
    count = max(1, recipe.validation_images // recipe.batch)
    return [simulator.batch(recipe.batch, VALIDATION_SEED + k) for k in range(count)]


def _validate(network, batches, recipe, device):
    """Loss and, per output, Dice at 0.5 and the ratio of areas, over simulated images."""
    loss_of = loss_cord if recipe.task == "cord" else loss_locator
    losses, prob, target = [], [], []
    with torch.no_grad():
        for batch in batches:
            batch = _to(batch, device)
            logits = network(batch.image)
            losses.append(loss_of(logits, batch).item())
            prob.append((torch.sigmoid(logits) * getattr(batch, "inside", 1)).cpu())
            target.append((batch.target * getattr(batch, "inside", 1)).cpu())
    prob, target = torch.cat(prob), torch.cat(target)
    row = {"loss": round(sum(losses) / len(losses), 5)}
    if recipe.task == "locator":
        return row | _validate_locator(prob, target)
    for channel, name in enumerate(("SC", "GM")):
        p, t = prob[:, channel], target[:, channel]
        hard_p, hard_t = p > 0.5, t > 0.5
        dice = 2 * (hard_p & hard_t).sum((1, 2)) / (hard_p.sum((1, 2)) + hard_t.sum((1, 2))).clamp(min=1)
        row[f"dice_{name}"] = round(dice.mean().item(), 4)
        row[f"area_ratio_{name}"] = round((p.sum() / t.sum()).item(), 4)
    return row


def _validate_locator(prob, target):
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


def _to(batch, device):
    return type(batch)(*(getattr(batch, f.name).to(device, memory_format=torch.channels_last) for f in fields(batch)))


def _append(path, row):
    new = not path.exists()
    with open(path, "a", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


def _save(value, path):
    torch.save(value, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def _write(path, data):
    path.with_suffix(".tmp").write_bytes(data)
    os.replace(path.with_suffix(".tmp"), path)

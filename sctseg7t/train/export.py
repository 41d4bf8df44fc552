"""From a training run to a model of the zoo: ONNX, parity check, manifest entry, model card."""

import copy
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sctseg7t.errors import InputError, ModelError
from sctseg7t.files import read_json
from sctseg7t.train import checkpoint
from sctseg7t.train.manifest_entry import OPSET, finished_entry, starting_entry, training_record
from sctseg7t.train.model_card import write_card
from sctseg7t.train.named_networks import count_parameters
from sctseg7t.train.networks import UNet, update_average
from sctseg7t.train.recipe import STRATEGIES, TrainRecipe, read_recipe
from sctseg7t.train.run_folder import PROBE, RECIPE, SITTINGS, finished
from sctseg7t.train.scans.labelled import label_map
from sctseg7t.train.scans.learning import SPLITS
from sctseg7t.train.starting import begin, load_start
from sctseg7t.train.task import InputShape, task_of
from sctseg7t.zoo.cache import file_digest
from sctseg7t.zoo.edit import put_model, write_entry

# Largest difference of a probability between torch and ONNX Runtime that is still rounding.
PARITY = 1e-4


class _Probabilities(torch.nn.Module):
    """The network as it is shipped: probabilities out."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.network(image))


def load_trained(run: str | Path) -> tuple[TrainRecipe, torch.nn.Module]:
    """Recipe and network (evaluation mode, best weights) of a run folder (InputError where it has none)."""
    run = Path(run)
    path = run / checkpoint.WEIGHTS
    if not path.is_file():
        raise InputError(f"{run}: holds no trained weights ({path.name}); train a network into it first")
    recipe = read_recipe(run / RECIPE)
    network = task_of(recipe).network(recipe)
    remedy = "train on to the next validation, or again in another folder"
    checkpoint.fit(network, checkpoint.read(path, remedy), path, remedy)
    return recipe, network.eval()


@dataclass(frozen=True)
class Blend:
    """Weights to average with the trained ones, and their share.

    A network trained on from another can be averaged with it, weight by weight: it then keeps more of what the first
    one was good at (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).

    Attributes
    ----------
    model : str
        Run folder, ``.pt`` or ``.onnx`` file, or model of the zoo, as for starting weights.
    share : float
        Of that model, above 0 and below 1.
    """

    model: str
    share: float


def export(
    run: str | Path,
    *,
    manifest: str | Path | None = None,
    version: str | None = None,
    blend: Sequence[Blend] = (),
    shift: Mapping[str, float] | None = None,
) -> Path:
    """Export a run's best weights.

    Parameters
    ----------
    run : path
        Folder of a training run.
    manifest : path, optional
        ``models.json`` whose entry of this model and version is updated, or added; the ONNX file goes into
        ``sctseg7t/weights`` beside it. Default: the ONNX file goes into the run folder, with its entry beside it,
        and ``sct7t_deepseg -m RUN/NAME.onnx`` runs it at once.
    version : str, optional
        Default: the newest that the manifest has of this model; 1.0.0 of one that it has not.
    blend : sequence of Blend, optional
        Average the weights with those of other runs or models; the run's have the share that these leave. Default:
        with those that the run started from, as its recipe says (``start_share``).
    shift : dict of str to float, optional
        By output: a number to add to its logits, which calibrates its area; of a U-Net.

    Returns
    -------
    Path
        The ONNX file.

    Raises
    ------
    InputError
        The folder holds no finished weights.
    ModelError
        ONNX Runtime and torch disagree, or the manifest cannot be used.
    """
    run = Path(run)
    recipe, network = load_trained(run)
    blended = (
        _blend(network, lambda: task_of(recipe).network(recipe), blend) if blend else _with_start(network, run, recipe)
    )
    # Before anything is written: the entry that says what the network's input and outputs are.
    source = starting_entry(manifest, recipe, version)
    if shift:
        blended |= _shift(network, {o["name"]: o["channel"] for o in source["outputs"]}, shift)
    folder = Path(manifest).resolve().parent / "sctseg7t/weights" if manifest else run
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{recipe.model}-{source['version']}.onnx"
    shape = task_of(recipe).input_shape(recipe)
    probe = np.load(run / PROBE) if (run / PROBE).is_file() else None
    difference = _write_checked(network, path, shape, probe)
    training = training_record(run, recipe, count_parameters(network), difference) | blended
    entry = finished_entry(source, path, shape, training, packaged=manifest is not None)
    if recipe.task == "scans" and (run / SPLITS).is_file():
        entry = _tested(entry, run, path, recipe)
    if manifest:
        put_model(manifest, entry)
    else:
        write_entry(path.with_suffix(".json"), entry)
    write_card(entry, folder)
    return path


def _tested(entry: dict, run: Path, path: Path, recipe: TrainRecipe) -> dict:
    """An entry with what was measured on the test part of its split, and what follows of that for its limits."""
    from sctseg7t.train.final_test import final_test

    rows, why = [], "the training has not come to its end"
    if finished(run, recipe):
        # The measurement runs the network as a user does: with its entry beside it.
        with tempfile.TemporaryDirectory() as place:
            beside = Path(place) / path.name
            shutil.copyfile(path, beside)
            write_entry(beside.with_suffix(".json"), entry | {"files": [entry["files"][0] | {"urls": [path.name]}]})
            rows, why = final_test(run, beside, label_map(recipe.labels))
    people = entry["training"]["train_people"]
    limits = [
        f"Learned from {people} people of one data set: other scanners and protocols were not tried.",
        "Areas and volumes follow the outlines of its training masks: compare those of one version only.",
        *([f"{'On the test part' if rows else 'Nothing was measured on a test part'}: {why}."] if why else []),
        *entry["limitations"],
    ]
    return entry | {"evaluation": rows, "limitations": list(dict.fromkeys(limits))}


def _blend(network, untrained, blend):
    """Move weights towards other networks'; what the training record says of it."""
    left, told = 1 - sum(part.share for part in blend), {}
    if left <= 0:
        raise InputError("shares of the models to blend with: they add up to 1 or more and leave none for the run")
    for part in blend:
        other = untrained()
        told[file_digest(checkpoint.start_from(other, part.model))] = part.share
        update_average(network, other, left / (left + part.share))
        left += part.share
    return {"blended_with": told}


def _with_start(network: torch.nn.Module, run: Path, recipe: TrainRecipe) -> dict[str, Any]:
    """Move weights back towards those that the run started from; what the training record says of it.

    Where labels or images began anew there is nothing to go back to: the weights stay as they were trained.
    """
    start = read_json(run / SITTINGS).get("start")
    if not (recipe.start_share and start) or (recipe.strategy and not STRATEGIES[recipe.strategy].starts):
        return {}
    begun, other = load_start(start["path"]), copy.deepcopy(network)
    if file_digest(begun.path) != start["sha256"]:
        raise InputError(
            f"{run}: {start['path']} holds other weights than those that the run started from, which are to be part "
            "of the exported network; name the model to blend with, and its share"
        )
    if begin(other, begun, tuple(recipe.labels), recipe.entry["input"].get("channels", ["any"])):
        return {}
    update_average(network, other, 1 - recipe.start_share)
    return {"blended_with": {start["sha256"]: recipe.start_share}}


def _shift(network, channels, shift):
    """Add a number to the logits of an output, in the head's bias; what the training record says of it."""
    unknown = sorted(set(shift) - set(channels))
    if unknown or not isinstance(network, UNet):
        raise InputError(
            f"shift of {', '.join(unknown or shift)}: the outputs of a U-Net can be shifted, by their names"
        )
    # An output has a channel of the folded image for each of its pixels.
    parts = network.head.bias.detach().view(len(channels), -1)
    for name, number in shift.items():
        parts[channels[name]] += number
    return {"shifted_logits": dict(shift)}


def _write_checked(network: torch.nn.Module, path: Path, shape: InputShape, probe: np.ndarray | None = None) -> float:
    """Write the ONNX file, with free batch size, if ONNX Runtime agrees with torch; returns the largest difference."""
    axes = {"image": {0: "n"}, "probability": {0: "n"}}
    if shape.free:
        names = ("height", "width") if len(shape.size) == 2 else ("x", "y", "z")
        for name in axes:
            axes[name] |= dict(enumerate(names, 2))
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        # The tracing exporter folds batch normalisation into the convolutions before it.
        torch.onnx.export(
            _Probabilities(network).eval(),
            (torch.zeros(2, shape.channels, *shape.size),),
            str(temporary),
            input_names=["image"],
            output_names=["probability"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
        difference = parity(network, temporary, shape, probe)
        if not difference < PARITY:
            raise ModelError(f"{path}: ONNX Runtime differs from torch by {difference:.2g}; not written")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return difference


def parity(network: torch.nn.Module, path: Path, shape: InputShape, probe: np.ndarray | None = None) -> float:
    """Largest difference of probability between torch and ONNX Runtime, on seeded noise and on an image of a scan."""
    from sctseg7t.runtime import open_session

    # A free size is tried with another than that of the export.
    size = shape.size[::-1] if shape.free else shape.size
    noise = np.random.default_rng(0).standard_normal((3, shape.channels, *size)).astype(np.float32)
    session, differences = open_session(path, "cpu"), []
    for images in (noise, probe):
        if images is not None:
            with torch.no_grad():
                expected = torch.sigmoid(network(torch.from_numpy(images))).numpy()
            differences.append(float(np.abs(session.run(images) - expected).max()))
    return max(differences)

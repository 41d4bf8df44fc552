"""From a training run to a model of the zoo: ONNX, parity check, manifest entry, model card."""

from pathlib import Path

import numpy as np
import torch

from sctseg7t.errors import InputError, ModelError, OutputError
from sctseg7t.files import write_bytes
from sctseg7t.train import checkpoint
from sctseg7t.train.card import card
from sctseg7t.train.entry import newest, template, training_record
from sctseg7t.train.loop import TrainRecipe, brain_channels, make_network
from sctseg7t.zoo.edit import pin, put_model, write_entry
from sctseg7t.zoo.manifest import load_manifest

OPSET = 17
# Largest difference of a probability between torch and ONNX Runtime that is still rounding.
PARITY = 1e-4


class _Probabilities(torch.nn.Module):
    """The network as it is shipped: probabilities out."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return torch.sigmoid(self.network(image))


def find_recipe(name):
    """Path of a recipe: a file, or one of those shipped (InputError if neither)."""
    path = Path(name)
    shipped = Path(__file__).parent / "recipes" / f"{name}.json"
    for candidate in (path, shipped):
        if candidate.is_file():
            return candidate
    names = ", ".join(sorted(p.stem for p in shipped.parent.glob("*.json")))
    raise InputError(f"{name}: no such recipe file; the shipped recipes are {names}")


def load_trained(run):
    """Recipe and network (evaluation mode, best weights) of a run folder."""
    run = Path(run)
    path = run / checkpoint.WEIGHTS
    if not path.is_file():
        raise InputError(f"{run}: holds no trained weights ({path.name}); train with sct7t_train -config first")
    recipe = TrainRecipe.read(run / "recipe.json")
    network = make_network(recipe)
    remedy = "train on to the next validation, or again in another folder"
    checkpoint.fit(network, checkpoint.read(path, remedy), path, remedy)
    return recipe, network.eval()


def write_onnx(network, path, size, channels=1):
    """Write a network with free batch size (and free image size for ``size`` None)."""
    axes = {"image": {0: "n"}, "probability": {0: "n"}}
    if size is None:
        for name in axes:
            axes[name] |= {2: "height", 3: "width"}
    example = torch.zeros(2, channels, *(size or (64, 96)))
    # The tracing exporter folds batch normalisation into the convolutions before it.
    torch.onnx.export(
        _Probabilities(network).eval(),
        (example,),
        str(path),
        input_names=["image"],
        output_names=["probability"],
        dynamic_axes=axes,
        opset_version=OPSET,
        dynamo=False,
    )


def parity(network, path, size, channels=1):
    """Largest difference of probability between torch and ONNX Runtime on seeded noise."""
    from sctseg7t.runtime import open_session

    image = np.random.default_rng(0).standard_normal((3, channels, *(size or (96, 64)))).astype(np.float32)
    with torch.no_grad():
        expected = torch.sigmoid(network(torch.from_numpy(image))).numpy()
    return float(np.abs(open_session(path, "cpu").run(image) - expected).max())


def probe(path, shape):
    """What a network makes of a known image: mean and maximum of each output.

    The image ("ripples") is cos(r / 9) cos(c / 13) at row r, column c of every slice and channel: any site can make
    it and compare with ``test_output`` of the model's entry.
    """
    from sctseg7t.runtime import open_session

    rows, columns = np.ogrid[: shape[-2], : shape[-1]]
    image = np.broadcast_to(np.cos(rows / 9) * np.cos(columns / 13), shape).astype(np.float32)
    maps = open_session(path, "cpu").run(image)[0]
    return {"mean": [round(float(m.mean()), 5) for m in maps], "max": [round(float(m.max()), 5) for m in maps]}


def export(run, *, manifest=None, version=None, weights_folder=None):
    """Export a run's best weights.

    Parameters
    ----------
    run : path
        Folder of a training run.
    manifest : path, optional
        ``models.json`` whose entry of this model and version is updated. Without it the ONNX file goes
        into the run folder, with its entry beside it: ``sct7t_deepseg -m RUN/NAME.onnx`` runs it at once.
    version : str, optional
        Default: the newest that the manifest has of this model; 1.0.0 of one that it has not.
    weights_folder : path, optional
        Where the ONNX file goes; default ``sctseg7t/weights`` beside the manifest.

    Returns
    -------
    Path
        The ONNX file.

    Raises
    ------
    InputError
        The folder holds no finished weights.
    ModelError
        ONNX Runtime and torch disagree, or the manifest has no entry to update.
    """
    run = Path(run)
    recipe, network = load_trained(run)
    # Before anything is written: the entry that says what the network's input and outputs are.
    version = version or newest(manifest, recipe)
    source = template(manifest, recipe, version)
    folder = (
        Path(weights_folder)
        if weights_folder
        else Path(manifest).resolve().parent / "sctseg7t/weights"
        if manifest
        else run
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{folder}: cannot be made ({err.strerror or err}); choose another folder") from err
    final = folder / f"{recipe.model}-{version}.onnx"
    difference = _write_checked(network, final, *_shape(recipe))
    training = training_record(run, recipe, network, difference)
    entry = _entry(source, recipe, version, final, training, packaged=manifest is not None)
    if manifest:
        put_model(manifest, entry)
    else:
        write_entry(final.with_suffix(".json"), entry)
    _write_card(entry, final)
    return final


def _shape(recipe):
    """Size of the network's input, None for a free one, and its channels."""
    if recipe.task == "brain_lesion":
        return (recipe.simulation.get("patches", {}).get("size", 64),) * 3, len(brain_channels(recipe))
    return ((128, 128) if recipe.task == "cord" else None), 1


def _write_checked(network, final, size, channels):
    """Write the ONNX file if ONNX Runtime agrees with torch; the largest difference."""
    temporary = final.with_name(f".{final.name}.tmp")
    try:
        write_onnx(network, temporary, size, channels)
        difference = parity(network, temporary, size, channels)
        if not difference < PARITY:
            raise ModelError(f"{final}: ONNX Runtime differs from torch by {difference:.2g}; not written")
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)
    return difference


def _entry(source, recipe, version, path, training, packaged):
    pinned = pin(path)
    if pinned["sha256"] not in [f.get("sha256") for f in source["files"]]:
        # What other weights scored says nothing of these.
        source |= {"evaluation": []}
    size, channels = _shape(recipe)
    shape = [1, channels, *(size or (64, 96))]
    source |= {"test_input": {"name": "ripples", "shape": shape}}
    source |= {"test_output": {**probe(path, shape), "tolerance": 1e-3}}
    return source | {
        "version": version,
        "activation": "sigmoid",
        "training": training,
        "files": [
            {
                **pinned,
                "path": pinned["name"],
                "urls": [f"package:weights/{path.name}"] if packaged else [path.name],
                "format": "onnx",
                "opset": OPSET,
                "precision": "float32",
            }
        ],
    }


def record_evaluation(manifest, name, rows):
    """Put measured results into a model's entry and rewrite its card.

    Parameters
    ----------
    manifest : path
    name : str
        ``MODEL`` or ``MODEL@VERSION``.
    rows : list of dict
        As ``evaluation`` in the schema: dataset, role, structure, metric, n, mean, sd, units.
    """
    put_model(manifest, {**load_manifest(manifest).model(name).raw, "evaluation": rows})
    rewrite_card(manifest, name)


def rewrite_card(manifest, name):
    """Write a model's card again, after its entry or its pictures of failures changed; its path."""
    entry = load_manifest(manifest).model(name).raw
    return _write_card(entry, Path(manifest).resolve().parent / "sctseg7t/weights" / entry["files"][0]["name"])


def _write_card(entry, weights):
    return write_bytes(weights.with_suffix(".md"), card(entry, weights.parent).encode())

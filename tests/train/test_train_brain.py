"""Brain lesion networks: their size, their training from a bank, resume, export and entry."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sctseg7t.cli import train as cli

torch = pytest.importorskip("torch", reason="needs the [train] extra")
pytest.importorskip("onnx", reason="needs the [train] extra")

from sctseg7t.errors import InputError  # noqa: E402
from sctseg7t.simulate.brain import bank, patches  # noqa: E402
from sctseg7t.simulate.brain.template import Template  # noqa: E402
from sctseg7t.train import entry, export, loop, losses, validate  # noqa: E402
from sctseg7t.train.network import count_parameters  # noqa: E402
from sctseg7t.train.network3d import MPUNetPP, UNet3d, fold3d, unfold3d  # noqa: E402
from sctseg7t.train.recipe import TrainRecipe  # noqa: E402
from sctseg7t.zoo.local_model import spec_from_onnx  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

RECIPES = sorted((Path(loop.__file__).parent / "recipes").glob("brain_lesion*.json"))
RECIPE = TrainRecipe(
    model="my_lesion",
    task="brain_lesion",
    anatomy=["MNI152"],
    steps=4,
    batch=2,
    warmup=1,
    seed=3,
    validate_every=2,
    validation_images=2,
    network={"kind": "unet3d", "widths": [16, 16], "fold": 2},
    simulation={"patches": {"size": 16}, "bank": {"count": 2, "held_out": 1, "seed": 0}},
)


@pytest.fixture(autouse=True)
def small_bank(monkeypatch, tmp_path):
    """Two blocks of tissue with a lesion each, in place of simulated brains."""
    folder = tmp_path / "stored"
    folder.mkdir()
    for k in range(2):
        image, label = np.ones((24, 24, 24)), np.zeros((24, 24, 24))
        label[8 + k : 13 + k, 8:13, 8:13] = 1
        bank.store(folder, f"{k:04}", image + 0.6 * label, label, np.eye(3, 4))
    maps = torch.zeros(5, 40, 40, 40)
    monkeypatch.setattr("sctseg7t.simulate.brain.template.load_template", lambda: Template(maps, maps[:2], (0.0,) * 3))
    monkeypatch.setattr(bank, "fill", lambda *a, **k: [bank.open_brain(folder, f"{i:04}") for i in range(2)])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def learn(out, recipe=RECIPE, **options):
    log = io.StringIO()
    loop.train(recipe, {}, out, threads=1, log=log, **options)
    return log.getvalue()


def test_parameters_of_both_networks():
    assert count_parameters(MPUNetPP()) == 37_935
    assert 1.6e6 < count_parameters(UNet3d()) < 1.8e6


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_build_networks_of_the_sizes_told(path):
    recipe = TrainRecipe.read(path)
    network = loop.make_network(recipe)
    exact = 37_935 if "mpunetpp" in recipe.model else count_parameters(UNet3d())
    assert count_parameters(network) == exact and recipe.task == "brain_lesion"
    unknown = set(recipe.simulation.get("patches", {})) - set(patches._DEFAULTS)
    assert not unknown


@pytest.mark.parametrize("network", [UNet3d((16, 16)), MPUNetPP()])
def test_output_has_the_size_of_the_input(network):
    assert network.eval()(torch.zeros(1, 3, 16, 32, 16)).shape == (1, 1, 16, 32, 16)


def test_folding_is_undone_and_keeps_neighbours_together():
    x = torch.arange(2 * 3 * 4 * 6 * 8.0).view(2, 3, 4, 6, 8)
    folded = fold3d(x, 2)
    assert folded.shape == (2, 24, 2, 3, 4) and torch.equal(unfold3d(folded, 2), x)
    assert folded[0, :8, 0, 0, 0].tolist() == x[0, 0, :2, :2, :2].flatten().tolist()


def test_channels_of_the_recipe_decide_the_network_s_inputs():
    flair = replace(RECIPE, simulation={"channels": ["FLAIR"]})
    assert loop.make_network(flair).down[0][0].in_channels == 8
    assert loop.make_network(RECIPE).down[0][0].in_channels == 24


def test_networks_that_cannot_be_built_are_named():
    with pytest.raises(InputError, match="unet4d"):
        loop.make_network(replace(RECIPE, network={"kind": "unet4d"}))
    with pytest.raises(InputError, match="wdiths"):
        loop.make_network(replace(RECIPE, network={"kind": "unet3d", "wdiths": [16]}))


def test_loss_falls_where_the_answer_is_right_and_counts_small_lesions():
    target = torch.zeros(2, 1, 8, 8, 8)
    target[0, 0, :6, :6, :6], target[1, 0, :2, :2, :2] = 1, 1
    batch = patches.BrainBatch(target, target)
    right = losses.loss_lesion(16 * target - 8, batch)
    missed = 16 * target - 8
    missed[1] = -8
    assert right < 0.05 < losses.loss_lesion(missed, batch) < losses.loss_lesion(torch.full_like(target, -8.0), batch)


def test_loss_of_an_empty_patch_grows_with_what_is_found():
    target = torch.zeros(1, 1, 8, 8, 8)
    batch = patches.BrainBatch(target, target)
    few, many = torch.full_like(target, -9.0), torch.full_like(target, -9.0)
    few[..., :1, :1, :1], many[..., :4, :4, :4] = 9, 9
    assert losses.loss_lesion(few, batch) < losses.loss_lesion(many, batch)


def test_scores_of_a_perfect_and_of_an_empty_answer():
    target = torch.zeros(2, 1, 6, 6, 6)
    target[0, 0, :3, :3, :3] = 1
    perfect = validate._lesion_scores(target, target)
    assert (perfect["dice_LESION"], perfect["patches_hit"], perfect["false_share"]) == (1, 1, 0)
    nothing = validate._lesion_scores(torch.zeros_like(target), target)
    assert (nothing["dice_LESION"], nothing["patches_hit"]) == (0, 0)


def test_training_resumes_where_it_stopped_with_the_same_weights(tmp_path):
    whole = tmp_path / "whole"
    said = learn(whole)
    assert "step 4" in said and (whole / "curves.png").is_file()
    halved = tmp_path / "halved"
    # Before the learning rate falls the length may change.
    short = replace(RECIPE, steps=2, decay=0.0)
    learn(halved, short)
    learn(halved, replace(short, steps=4))
    straight = tmp_path / "straight"
    learn(straight, replace(short, steps=4))
    one, two = (torch.load(run / "last.pt", weights_only=True)["average"] for run in (halved, straight))
    assert all(torch.equal(a, b) for a, b in zip(one.values(), two.values()))


def test_training_learns_the_bright_block(tmp_path):
    learn(tmp_path, replace(RECIPE, steps=60, batch=4, learning_rate=0.01, validate_every=30, ema=0.9))
    rows = (tmp_path / "curves.csv").read_text().splitlines()
    head = rows[0].split(",")
    first, last = (float(row.split(",")[head.index("loss")]) for row in (rows[1], rows[-1]))
    assert last < first and float(rows[-1].split(",")[head.index("dice_LESION")]) > 0.5


@pytest.mark.parametrize("network", [RECIPE.network, {"kind": "mpunetpp", "levels": 3}], ids=["unet3d", "mpunetpp"])
def test_export_writes_a_model_that_the_zoo_reads(tmp_path, network):
    recipe = replace(RECIPE, network=network)
    learn(tmp_path, recipe)
    path = export.export(tmp_path)
    spec = spec_from_onnx(path)
    assert spec.task == "brain_lesion" and spec.input.size == (16, 16, 16) and spec.input.axes == "xyz"
    assert spec.input.channels == ("FLAIR", "prior_GM", "prior_WM") and spec.input.sampling.method == "patches"
    assert [o.suffix for o in spec.outputs] == ["_lesionseg"]
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["training"]["onnx_parity"] < export.PARITY
    assert told["test_input"]["shape"] == [1, 3, 16, 16, 16] and len(told["test_output"]["mean"]) == 1
    text = path.with_suffix(".md").read_text()
    assert "flair.nii.gz" in text and "simulated images only" in text and "people's images in training | none" in text


def test_entry_says_which_patients_were_trained_on(tmp_path):
    recipe = replace(RECIPE, simulation={**RECIPE.simulation, "real": ["07"], "patches": {"real_share": 0.25}})
    assert "25% of the patches, real patients 07" in entry._data(recipe)
    assert entry._data(RECIPE).startswith("simulated images only")


def test_real_scans_are_for_cord_models(tmp_path):
    with pytest.raises(InputError, match="-val"):
        learn(tmp_path, scans=[object()])


def test_command_names_data_without_lesions(tmp_path, capsys):
    code = cli.main(["-config", "brain_lesion_unet", "-o", str(tmp_path / "run"), "-data", str(tmp_path)])
    assert code == 2 and "lesion_masks_mni" in capsys.readouterr().err

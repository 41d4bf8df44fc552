"""Labelled scans to a network that runs: recipes made whole, starts read back, strategies, networks, the test part."""

import json
from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from train_helpers import SMALL, Log, read_json, save_people, save_scan, weights

from sctseg7t.errors import InputError
from sctseg7t.inference.pipeline import open_segmenter
from sctseg7t.train import losses, onnx_weights, starting
from sctseg7t.train.export import export, load_trained
from sctseg7t.train.fine_tuning import planned, split_of, whole_recipe
from sctseg7t.train.loop import train
from sctseg7t.train.named_networks import build_network, count_parameters, plan_strides
from sctseg7t.train.run_folder import ended_early
from sctseg7t.train.scans.labelled import find_scans, label_map
from sctseg7t.train.scans.learning import Learning
from sctseg7t.train.scans.splits import Split
from sctseg7t.train.starting import begin, load_start
from sctseg7t.train.strategies import freeze, shares, told
from sctseg7t.zoo import share
from sctseg7t.zoo.manifest import load_manifest


def network(kind, dimensions, inputs, outputs, **options):
    return build_network(SimpleNamespace(model="a", network={"kind": kind, **options}), inputs, outputs, dimensions)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Scans of three people, each with a cord mask and a gray one of the same name's ending."""
    return save_people(tmp_path_factory.mktemp("people"))


def recipe_of(tmp_path, **changes):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(SMALL | changes))
    return whole_recipe(path, None)


def run(recipe, people, out, split=Split("a", ("1",), ("2",), ("3",)), **options):
    scans = find_scans([people], label_map(recipe.labels))
    train(recipe, {}, out, learning=Learning(scans, split), log=(log := Log()), **options)
    return log.text


@pytest.mark.parametrize("labels", [{"SC": []}, {"core": []}, {"core": [], "SC": []}])
def test_any_labels_train_export_segment_and_are_measured_once(people, tmp_path, labels):
    recipe = recipe_of(tmp_path, labels=labels)
    run(recipe, people, tmp_path / "run")
    path = export(tmp_path / "run")
    entry = read_json(path.with_suffix(".json"))
    assert [output["name"] for output in entry["outputs"]] == list(labels)
    segmenter = open_segmenter(model=str(path), device="cpu", threads=1)
    result = segmenter.run(people / "sub-3/anat/sub-3_T2starw.nii.gz")
    assert set(labels) <= set(result.masks)
    told = {row["structure"]: row for row in entry["evaluation"] if row["metric"] == "Dice per scan"}
    assert set(told) == set(labels) and all(row["role"] == "test" and row["n"] == 1 for row in told.values())
    assert entry["training"]["splits_sha256"] == Split("", ("1",), ("2",), ("3",)).digest()
    assert entry["training"]["test_people"] == 1
    # Another network of the same run would be chosen by the test part.
    stored = weights(tmp_path / "run/model.pt")
    torch.save({name: tensor * 0.9 for name, tensor in stored.items()}, tmp_path / "run/model.pt")
    again = read_json(export(tmp_path / "run").with_suffix(".json"))
    assert again["evaluation"] == [] and any("measured once" in text for text in again["limitations"])


def test_a_run_goes_on_with_its_scans_only(people, tmp_path):
    recipe = recipe_of(tmp_path, labels={"SC": []})
    run(recipe, people, tmp_path / "run")
    with pytest.raises(InputError, match="of another split"):
        run(recipe, people, tmp_path / "run", Split("b", ("2",), ("1",), ("3",)))


def test_without_validation_the_last_weights_are_kept(people, tmp_path):
    said = run(recipe_of(tmp_path, labels={"SC": []}), people, tmp_path / "run", Split("a", ("1", "2", "3")))
    assert "the last weights are kept" in said
    kept, state = weights(tmp_path / "run/model.pt"), weights(tmp_path / "run/last.pt")
    assert all(torch.equal(kept[name], state["average"][name]) for name in kept)
    entry = read_json(export(tmp_path / "run").with_suffix(".json"))
    assert any("nobody is in the test part" in text for text in entry["limitations"])


def test_the_exported_network_has_its_share_of_the_start(people, tmp_path):
    """By recipe; nothing is mixed in where a label began anew, and a start that was changed since is told."""
    plain = {"network": SMALL["network"] | {"norm": False}}
    run(recipe_of(tmp_path, labels={"SC": []}, model="first", **plain), people, tmp_path / "first")
    changes = {"labels": {"SC": []}, "strategy": "half_lr", "start_share": 0.75, "seed": 2, **plain}
    recipe = recipe_of(tmp_path, **changes)
    run(recipe, people, tmp_path / "second", start=tmp_path / "first")
    _, start = load_trained(tmp_path / "first")
    _, tuned = load_trained(tmp_path / "second")
    entry = read_json(export(tmp_path / "second").with_suffix(".json"))
    assert list(entry["training"]["blended_with"].values()) == [0.75]
    exported = load_start(tmp_path / "second/mine-1.0.0.onnx").trained()
    for a, b, c in zip(start.parameters(), tuned.parameters(), exported.parameters()):
        assert torch.allclose(0.75 * a + 0.25 * b, c, atol=1e-5)
    run(recipe_of(tmp_path, **changes | {"labels": {"core": []}}), people, tmp_path / "other", start=tmp_path / "first")
    assert "blended_with" not in read_json(export(tmp_path / "other").with_suffix(".json"))["training"]
    (tmp_path / "first/model.pt").write_bytes((tmp_path / "second/model.pt").read_bytes())
    with pytest.raises(InputError, match="other weights than those that the run started from"):
        export(tmp_path / "second")


def test_patience_ends_a_run_for_good(people, tmp_path):
    recipe = recipe_of(tmp_path, labels={"SC": []}, steps=40, learning_rate=1e-9, least_gain=1.0, patience=2)
    said = run(recipe, people, tmp_path / "run")
    assert "ended at step 6" in said and ended_early(tmp_path / "run", recipe)
    before = (tmp_path / "run/model.pt").read_bytes()
    run(recipe, people, tmp_path / "run")
    assert (tmp_path / "run/model.pt").read_bytes() == before
    assert read_json(export(tmp_path / "run").with_suffix(".json"))["evaluation"]


def test_simulated_images_can_be_mixed_in_or_be_all(people, tmp_path):
    mixed = recipe_of(
        tmp_path,
        labels={"SC": []},
        # Named twice, since the tests draw discs in place of the one alone.
        anatomy=["parametric", "parametric"],
        simulated={"task": "cord", "share": 0.5},
        entry={"model": "cord_gm_sc", "centring": {"policy": "image", "model": None}},
        network={"widths": [16, 16, 16], "fold": 4},
        steps=1,
    )
    run(mixed, people, tmp_path / "run")
    alone = replace(mixed, simulated={"task": "cord", "share": 1.0})
    train(alone, {}, tmp_path / "alone", log=Log())
    assert export(tmp_path / "alone").is_file()


def test_every_scan_is_checked_before_anything_trains(people, tmp_path):
    for name in ("4", "5"):
        image, mask = save_scan(people / f"sub-{name}/anat", f"sub-{name}_T2starw")
        nib.save(nib.Nifti1Image(np.zeros((70, 60, 5), np.uint8), nib.load(image).affine), mask)
    try:
        recipe = recipe_of(tmp_path, labels={"SC": []})
        with pytest.raises(InputError, match="2 of 5 scans cannot be used") as caught:
            run(recipe, people, tmp_path / "run", Split("a", ("1",), ("2",), ("4", "5")))
        assert "sub-4_T2starw_seg-manual" in str(caught.value)
    finally:
        for path in people.glob("sub-[45]/anat/*"):
            path.unlink()


# --- recipes ----------------------------------------------------------------------------------


def test_a_recipe_is_made_whole_from_its_start():
    start = load_start("cord_gm_sc")
    recipe = whole_recipe(None, start, {"model": "ours"})
    assert list(recipe.labels) == ["SC", "GM"] and recipe.strategy == "half_lr"
    assert {"kind": "unet", **recipe.network} == {
        "kind": "unet",
        "widths": [32, 64, 128, 128],
        "fold": 2,
        "norm": False,
    }
    entry = recipe.entry
    assert (entry["id"], entry["files"], entry["licence"]) == ("ours", [], None) and "evaluation" not in entry
    # The rate is half, and rises in a share of the steps.
    assert max(map(recipe.learning_rate_at, range(recipe.steps))) == pytest.approx(recipe.learning_rate / 2)
    assert recipe.learning_rate_at(int(recipe.warmup * recipe.steps)) == pytest.approx(recipe.learning_rate / 2)


def test_one_label_loses_what_needs_the_others():
    from sctseg7t.train.scans.entry import derived_entry

    entry = derived_entry(load_manifest().model("cord_gm_sc").raw, "gm", ["GM"])
    assert [(o["name"], o["channel"]) for o in entry["outputs"]] == [("GM", 0)]
    assert entry["derived"] == [] and [step["op"] for step in entry["postprocess"]] == ["remove_small"]


def test_nnunet_plans_from_the_data(people, tmp_path):
    recipe = recipe_of(tmp_path, labels={"SC": []}, network={"kind": "nnunet", "plan": "data"})
    done = planned(recipe, find_scans([people]))
    assert done.entry["input"]["spacing_mm"] == [0.5, 0.5] and done.entry["input"]["size"] == [32, 32]
    assert done.network["strides"] == [[1, 1], [2, 2], [2, 2], [2, 2]]
    assert plan_strides((64, 64, 16), (0.5, 0.5, 3.0)) == [[1, 1, 1], [2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]]


@pytest.mark.parametrize("how, train_people", [("none", 3), ("34/33/33", 1), ("folds:3", 1)])
def test_splits_are_said_in_words(people, how, train_people):
    splits, source = split_of(how, find_scans([people]), 0)
    assert len(splits[0].train) == train_people and how in source


# --- networks and strategies ------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, dimensions, inputs, outputs, parameters, listed",
    [
        ("study_unet", 3, 4, 5, 125_229, 125_229),
        ("study_dynunet", 3, 4, 5, 16_546_341, 33_092_517),
        # Of benchmark/peers/unet7t.py, which has the background as a third output.
        ("unet_7t", 2, 1, 3, 4_838_403, None),
    ],
)
def test_networks_of_the_studies_have_their_parameters(kind, dimensions, inputs, outputs, parameters, listed):
    made = network(kind, dimensions, inputs, outputs)
    assert count_parameters(made) == parameters
    if listed:
        assert sum(tensor.numel() for tensor in made.state_dict().values()) == listed
    lines = " ".join(told(made, kind, "half_lr"))
    assert f"{parameters:,}" in lines and (listed in (None, parameters) or f"{listed:,}" in lines)


@pytest.mark.parametrize(
    "kind, dimensions, options",
    [
        ("unet", 2, {}),
        ("unet3d", 3, {}),
        ("mpunetpp", 3, {}),
        ("unet_7t", 2, {"width": 8}),
        ("study_unet", 3, {}),
        ("nnunet", 2, {"filters": [4, 8, 8, 8]}),
    ],
)
def test_frozen_parts_do_not_move(kind, dimensions, options):
    made = network(kind, dimensions, 1, 2, **options)
    parts = shares(made)
    assert sum(count for count, _ in parts.values()) == count_parameters(made) and all(c for c, _ in parts.values())
    for strategy, still in (("freeze_encoder", {"down", "bottom"}), ("freeze_decoder", {"up"})):
        freeze(made, strategy)
        assert {part for part, (_, learning) in shares(made).items() if not learning} == still
    freeze(made, "freeze_both")
    assert {part for part, (_, learning) in shares(made).items() if learning} == {"head"}


def test_published_shares_are_named_as_not_reproducible():
    made = network("study_unet", 3, 4, 5)
    freeze(made, "freeze_encoder")
    assert "56 %" in told(made, "study_unet", "freeze_encoder")[-1]
    dynunet = network("study_dynunet", 3, 4, 5)
    freeze(dynunet, "freeze_encoder")
    assert "printed" not in " ".join(told(dynunet, "study_dynunet", "freeze_encoder"))


@pytest.mark.parametrize(
    "kind, options", [("study_unet", {}), ("unet_7t", {"width": 8}), ("nnunet", {"filters": [8] * 4})]
)
def test_every_network_runs_as_a_model_at_once_and_starts_another(people, tmp_path, kind, options):
    recipe = recipe_of(tmp_path, labels={"SC": []}, network={"kind": kind, **options}, steps=1)
    run(recipe, people, tmp_path / "run")
    path = export(tmp_path / "run")
    assert read_json(path.with_suffix(".json"))["training"]["onnx_parity"] < 1e-4
    open_segmenter(model=str(path), device="cpu", threads=1).run(people / "sub-1/anat/sub-1_T2starw.nii.gz")
    start = load_start(tmp_path / "run")
    begin(network(kind, 2, 1, 1, **options), start, ["SC"], start.channels)


@pytest.mark.parametrize("model", ["cord_gm_sc", "cord_gm_sc@1.1.0", "brain_lesion_mpunetpp"])
def test_shipped_networks_are_read_back_with_the_same_outputs(model):
    # The comparison with ONNX Runtime is made when they are read; here that a change is seen.
    start = load_start(model)
    read = start.trained()
    size = (len(start.channels), *start.entry["input"]["size"])
    with torch.no_grad():
        next(iter(read.parameters())).mul_(1.01)
    other = build_network(SimpleNamespace(model="a", network=start.network), size[0], len(start.labels), len(size) - 1)
    onnx_weights.fill(other, start.path, size)
    image = torch.randn(1, *size)
    with torch.no_grad():
        assert (read(image) - other(image)).abs().max() > 1e-5


def test_maps_and_images_of_a_start_are_matched_by_name():
    start = load_start("cord_gm_sc")
    made = network(
        **{"kind": "unet", "dimensions": 2, "inputs": 2, "outputs": 2}, widths=start.network["widths"], norm=False
    )
    said = begin(made, start, ["GM", "LESION"], ["T1", "T2star"])
    assert "LESION" in said[0] and "T1" in said[1]
    image = torch.randn(1, 1, 128, 128)
    with torch.no_grad():
        ours = made.eval()(torch.cat([torch.randn_like(image), image], 1))[:, 0]
        assert torch.allclose(ours, start.trained()(image)[:, 1], atol=1e-4)


def test_what_cannot_be_a_start_is_refused_in_words(monkeypatch):
    with pytest.raises(InputError, match="none of ours"):
        load_start("sct_gm_large")
    with pytest.raises(InputError, match="another one"):
        begin(network("unet", 2, 1, 2), load_start("cord_gm_sc"), ["SC", "GM"], ["T2star"])
    one = load_manifest().model("cord_gm_sc")
    several = replace(one, ensemble="mean", files=one.files * 2)
    monkeypatch.setattr(starting, "load_manifest", lambda: SimpleNamespace(model=lambda name: several))
    with pytest.raises(InputError, match="is 2 networks in one; .*cord_gm_sc"):
        load_start("several")


def test_fine_tuning_keeps_the_statistics_of_batch_normalisation(people, tmp_path):
    first = recipe_of(tmp_path, labels={"SC": []}, strategy="scratch")
    run(first, people, tmp_path / "first")
    run(replace(first, strategy="half_lr", model="second"), people, tmp_path / "second", start=tmp_path / "first")
    before, after = (weights(tmp_path / name / "last.pt")["network"] for name in ("first", "second"))
    best = weights(tmp_path / "first/model.pt")
    statistics = [name for name in after if name.endswith("running_mean")]
    assert statistics and all(torch.equal(best[name], after[name]) for name in statistics)
    assert not torch.equal(before["head.weight"], after["head.weight"])


# --- losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", losses.LOSSES)
def test_losses_fall_towards_the_target_and_ignore_what_is_not_known(name):
    target = torch.zeros(2, 2, 8, 8)
    target[:, :, 2:6, 2:6] = 1
    counts = torch.ones_like(target)
    counts[:, 1] = 0
    right, wrong = 8 * (target - 0.5), 8 * (0.5 - target)
    one = losses.loss(torch.cat([right[:, :1], wrong[:, 1:]], 1), target, counts, name)
    two = losses.loss(right, target, counts, name)
    assert torch.isclose(one, two) and two < losses.loss(wrong, target, counts, name)
    with pytest.raises(InputError, match="no term is called"):
        losses.loss(right, target, counts, name, anything={})


# --- a zoo of one's own -----------------------------------------------------------------------


def test_a_published_zoo_is_added_with_one_line(people, tmp_path, monkeypatch):
    monkeypatch.setenv("SCT7T_ZOOS", str(tmp_path / "zoos"))
    monkeypatch.setenv("SCT7T_CACHE", str(tmp_path / "cache"))
    run(recipe_of(tmp_path, labels={"SC": []}), people, tmp_path / "run")
    export(tmp_path / "run")
    written = share.publish([tmp_path / "run"], tmp_path / "zoo", licence="CC0-1.0")
    assert {path.suffix for path in written} == {".onnx", ".md", ".json"}
    kept, models = share.add(str(tmp_path / "zoo"))
    assert models == ["mine@1.0.0"] and load_manifest().model("mine").raw["licence"] == "CC0-1.0"
    segmenter = open_segmenter(model="mine", device="cpu", threads=1)
    assert segmenter.run(people / "sub-1/anat/sub-1_T2starw.nii.gz").masks.keys() == {"SC"}
    share.add(str(tmp_path / "zoo/models.json"))
    share.remove(kept.stem)
    assert not load_manifest().versions("mine")


# --- what a run leaves on its way -------------------------------------------------------------


def test_state_is_saved_by_time_too(people, tmp_path, monkeypatch):
    from sctseg7t.train import loop
    from sctseg7t.train.run_folder import State

    saved = []
    monkeypatch.setattr(State, "save", lambda self, out: saved.append(self.step))
    monkeypatch.setattr(loop, "_SAVE_SECONDS", -1)
    run(recipe_of(tmp_path, labels={"SC": []}, validate_every=4), people, tmp_path / "run")
    assert saved == [1, 2, 3, 4]


def test_curves_are_logged_where_tensorboard_is(people, tmp_path, monkeypatch):
    import sys

    logged = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder

        def __enter__(self):
            return self

        def __exit__(self, *what):
            return None

        def add_scalar(self, name, value, step):
            logged.append((self.folder, name, step))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter))
    run(recipe_of(tmp_path, labels={"SC": []}), people, tmp_path / "run")
    assert {(name, step) for _, name, step in logged} >= {("loss", 2), ("dice_SC", 4), ("learning_rate", 4)}
    assert {folder for folder, _, _ in logged} == {str(tmp_path / "run/tensorboard")}


def test_networks_without_windows_do_not_learn_from_labelled_scans():
    for model in ("cord_locator", "brain_mask"):
        with pytest.raises(InputError, match="windows"):
            whole_recipe(None, load_start(model))


# --- the command --------------------------------------------------------------------------------


def test_the_command_trains_and_exports(people, tmp_path, capsys):
    from sctseg7t.cli.train import main

    path = tmp_path / "mine.json"
    path.write_text(json.dumps(SMALL | {"labels": {"SC": []}}))
    out = tmp_path / "run"
    splits = tmp_path / "splits.json"
    splits.write_text('{"splits": [{"name": "b", "train": ["1", "3"], "test": ["2"]}]}')
    told = ["-config", str(path), "-scans", str(people), "-o", str(out), "-threads", "1"]
    assert main([*told, "-splits", str(splits), "-split", "b", "-strategy", "scratch", "-name", "ours", "-export"]) == 0
    entry = read_json(out / "ours-1.0.0.json")
    assert entry["training"]["strategy"] == "scratch" and entry["training"]["split"] == "b"
    assert str(tmp_path) not in json.dumps(entry)
    assert read_json(out / "splits.json")["splits"][0]["test"] == ["2"]
    assert main([*told[:-2], "-splits", str(splits), "-split", "c"]) == 2
    assert "has no split c; it has b" in capsys.readouterr().err


def test_one_person_is_told_before_anything_trains(people, tmp_path, capsys):
    from sctseg7t.cli.train import main

    assert main(["-start", "cord_gm_sc", "-scans", f"{people}/sub-1", "-o", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "1 person" in said and not (tmp_path / "run").exists()

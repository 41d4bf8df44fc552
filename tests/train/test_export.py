"""Export: an ONNX file that agrees with torch, and an entry by which it is used at once."""

import json

import numpy as np
import onnx
import pytest
import torch
from train_helpers import RECIPE

from sctseg7t.errors import InputError, ModelError
from sctseg7t.train import export
from sctseg7t.zoo.cache import describe, matches
from sctseg7t.zoo.local_model import schema_problem, spec_from_onnx
from sctseg7t.zoo.manifest import load_manifest
from sctseg7t.zoo.self_test import check_network

VERSION = load_manifest().versions("cord_gm_sc")[-1].version


@pytest.fixture
def mine(run, tmp_path):
    """The finished run as one of a model of the user's own."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("model.pt", "curves.csv"):
        (folder / name).write_bytes((run / name).read_bytes())
    recipe = {**json.loads((run / "recipe.json").read_text()), "model": "mine"}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


def test_into_the_run_folder_and_used_at_once(run, tmp_path, example, deepseg):
    onnx_path = export.export(run)
    assert onnx_path == run / f"cord_gm_sc-{VERSION}.onnx"
    spec = spec_from_onnx(onnx_path)
    assert spec.id == "cord_gm_sc" and spec.training["onnx_parity"] < 1e-4
    assert not list(run.glob(".*.tmp"))
    check_network(onnx_path, spec)
    code, _, _ = deepseg("-i", example, "-m", onnx_path, "-ofolder", tmp_path / "out", "-v", "0")
    # Six steps teach it nothing: the masks may be empty (1), but the run itself must work.
    assert code in (0, 1)
    sidecar = json.loads((tmp_path / "out/t2s_deepseg.json").read_text())
    assert sidecar["model"]["sha256"] == spec.files[0].sha256


def test_onnx_agrees_with_torch_for_any_number_of_images(run):
    from sctseg7t.runtime import open_session

    path = export.export(run)
    # Batch normalisation went into the convolutions.
    assert {node.op_type for node in onnx.load(path).graph.node} >= {"Conv", "Sigmoid"}
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(path).graph.node}
    _, network = export.load_trained(run)
    session = open_session(path, "cpu", 1)
    for count in (1, 5):
        images = np.random.default_rng(count).standard_normal((count, 1, 128, 128)).astype(np.float32)
        with torch.no_grad():
            expected = torch.sigmoid(network(torch.from_numpy(images))).numpy()
        assert np.abs(session.run(images) - expected).max() < export.PARITY


def test_manifest_entry_is_updated_and_sound(run, manifest):
    before = {(m["id"], m["version"]): m for m in json.loads(manifest.read_text())["models"]}
    path = export.export(run, manifest=manifest)
    assert path == manifest.parent / f"sctseg7t/weights/cord_gm_sc-{VERSION}.onnx"
    raw = json.loads(manifest.read_text())
    assert schema_problem(raw) is None
    after = {(m["id"], m["version"]): m for m in raw["models"]}
    assert after.keys() == before.keys()
    changed = [key for key in after if after[key] != before[key]]
    assert changed == [("cord_gm_sc", VERSION)]
    spec = load_manifest(manifest).model(f"cord_gm_sc@{VERSION}")
    assert matches(path, spec.files[0]), describe(spec.files[0])
    assert spec.training["n"] == RECIPE.batch * spec.training["steps"]
    assert spec.evaluation == () and spec.activation == "sigmoid"
    text = path.with_suffix(".md").read_text()
    assert f"cord_gm_sc {VERSION}" in text and "Nothing recorded" in text


def test_scores_stay_with_the_weights_they_belong_to(run, manifest):
    export.export(run, manifest=manifest)
    raw = json.loads(manifest.read_text())
    entry = next(m for m in raw["models"] if m["id"] == "cord_gm_sc")
    score = {"dataset": "made up", "role": "test", "structure": "GM", "metric": "Dice", "mean": 0.5, "units": ""}
    entry["evaluation"] = [score]
    manifest.write_text(json.dumps(raw))
    path = export.export(run, manifest=manifest)
    assert load_manifest(manifest).model("cord_gm_sc").evaluation == (score,)
    text = path.with_suffix(".md").read_text()
    assert "### made up (test)" in text and "| GM | Dice | 0.5 |  |" in text
    export.export(run, manifest=manifest, version="9.1.0")
    assert load_manifest(manifest).model("cord_gm_sc@9.1.0").evaluation == (score,)


def test_model_of_the_user_s_own_gets_an_entry_of_its_task(mine):
    path = export.export(mine)
    spec = spec_from_onnx(path)
    assert path.name == "mine-1.0.0.onnx" and spec.id == "mine" and not spec.default
    assert spec.task == "gm_sc" and spec.evaluation == ()


def test_model_that_the_manifest_does_not_know_is_added_to_it(mine, manifest):
    path = export.export(mine, manifest=manifest, version="2.0.0")
    spec = load_manifest(manifest).model("mine@2.0.0")
    assert matches(path, spec.files[0]) and path.name == "mine-2.0.0.onnx"
    assert schema_problem(json.loads(manifest.read_text())) is None


def test_disagreement_is_not_written(run, manifest, monkeypatch):
    monkeypatch.setattr(export, "parity", lambda *args: 2e-4)
    before = manifest.read_bytes()
    with pytest.raises(ModelError, match="differs from torch"):
        export.export(run, manifest=manifest)
    assert manifest.read_bytes() == before
    assert not list((manifest.parent / "sctseg7t/weights").iterdir())


def test_folder_without_weights(tmp_path):
    with pytest.raises(InputError, match="model.pt"):
        export.export(tmp_path)

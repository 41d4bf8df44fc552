"""Export: an ONNX file that agrees with torch, and an entry by which it is used at once."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from train_helpers import RECIPE, read_json

from sctseg7t.errors import InputError, ModelError
from sctseg7t.runtime import open_session
from sctseg7t.train import export
from sctseg7t.zoo.cache import matches
from sctseg7t.zoo.local_model import schema_problem, spec_from_onnx
from sctseg7t.zoo.manifest import load_manifest
from sctseg7t.zoo.self_test import check_network

VERSION = load_manifest().versions("cord_gm_sc")[-1].version


@pytest.fixture
def mine(run, tmp_path):
    """The finished run as one of a model of the user's own."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("model.pt", "curves.csv", "run.json"):
        (folder / name).write_bytes((run / name).read_bytes())
    (folder / "recipe.json").write_text(json.dumps(asdict(replace(RECIPE, model="mine"))))
    return folder


def test_into_the_run_folder_and_used_at_once(run, tmp_path, small, deepseg):
    path = export.export(run)
    assert path == run / f"cord_gm_sc-{VERSION}.onnx" and not list(run.glob(".*.tmp"))
    spec = spec_from_onnx(path)
    assert spec.id == "cord_gm_sc" and spec.training["onnx_parity"] < 1e-4
    check_network(path, spec)
    _, network = export.load_trained(run)
    images = np.random.default_rng(1).standard_normal((5, 1, 128, 128)).astype(np.float32)
    with torch.no_grad():
        expected = torch.sigmoid(network(torch.from_numpy(images))).numpy()
    assert np.abs(open_session(path, "cpu", 1).run(images) - expected).max() < export.PARITY
    code, _, _ = deepseg("-i", small, "-m", path, "-ofolder", tmp_path / "out", "-v", "0")
    # Six steps teach it nothing: the masks may be empty (1), but the run itself must work.
    assert code in (0, 1)
    assert read_json(tmp_path / "out/t2s_deepseg.json")["model"]["sha256"] == spec.files[0].digest


def test_manifest_entry_is_updated_and_keeps_the_scores_of_its_weights(run, manifest):
    before = {(m["id"], m["version"]): m for m in read_json(manifest)["models"]}
    path = export.export(run, manifest=manifest)
    assert path == manifest.parent / f"sctseg7t/weights/cord_gm_sc-{VERSION}.onnx"
    raw = read_json(manifest)
    after = {(m["id"], m["version"]): m for m in raw["models"]}
    assert after.keys() == before.keys() and schema_problem(raw) is None
    assert [key for key in after if after[key] != before[key]] == [("cord_gm_sc", VERSION)]
    spec = load_manifest(manifest).model(f"cord_gm_sc@{VERSION}")
    assert matches(path, spec.files[0]) and spec.training["n"] == RECIPE.batch * spec.training["steps"]
    # The old scores were of other weights.
    assert spec.evaluation == () and "Nothing recorded" in path.with_suffix(".md").read_text()
    score = {"dataset": "made up", "role": "test", "structure": "GM", "metric": "Dice", "mean": 0.5, "units": ""}
    after["cord_gm_sc", VERSION]["evaluation"] = [score]
    manifest.write_text(json.dumps(raw))
    path = export.export(run, manifest=manifest, version="9.1.0")
    assert load_manifest(manifest).model("cord_gm_sc@9.1.0").evaluation == (score,)
    assert "### made up (test)" in path.with_suffix(".md").read_text()


def test_model_of_the_user_s_own_gets_an_entry_of_its_task(mine, manifest):
    path = export.export(mine)
    spec = spec_from_onnx(path)
    assert path.name == "mine-1.0.0.onnx" and (spec.id, spec.task, spec.default) == ("mine", "gm_sc", False)
    path = export.export(mine, manifest=manifest, version="2.0.0")
    assert matches(path, load_manifest(manifest).model("mine@2.0.0").files[0]) and path.name == "mine-2.0.0.onnx"


def test_disagreement_is_not_written(run, manifest, monkeypatch):
    monkeypatch.setattr(export, "parity", lambda *args: 2e-4)
    before = manifest.read_bytes()
    with pytest.raises(ModelError, match="differs from torch"):
        export.export(run, manifest=manifest)
    assert manifest.read_bytes() == before and not list((manifest.parent / "sctseg7t/weights").iterdir())


def test_folder_without_weights(tmp_path):
    with pytest.raises(InputError, match="model.pt"):
        export.export(tmp_path)


def test_blend_is_the_average_of_the_weights(run, half):
    """The network half way to another run's is told apart from both, and told of in the record."""
    images = np.random.default_rng(1).standard_normal((1, 1, 128, 128)).astype(np.float32)
    mine, other = (export.load_trained(folder)[1].state_dict() for folder in (run, half))
    # Of two parts of the same other network the shares add up.
    parts = [export.Blend(str(half), share) for share in (0.1, 0.15)]
    spec = spec_from_onnx(path := export.export(run, blend=parts))
    _, network = export.load_trained(run)
    network.load_state_dict(
        {k: 0.75 * v + 0.25 * other[k] if v.is_floating_point() else other[k] for k, v in mine.items()}
    )
    with torch.no_grad():
        expected = torch.sigmoid(network(torch.from_numpy(images))).numpy()
    assert np.abs(open_session(path, "cpu", 1).run(images) - expected).max() < export.PARITY
    assert list(spec.training["blended_with"].values()) == [0.15]
    with pytest.raises(InputError, match="add up"):
        export.export(run, blend=[export.Blend(str(half), 0.5)] * 2)
    export.export(run)


def test_shift_moves_one_output_alone(run):
    """The logits of GM rise by the number, and SC stays."""
    images = np.random.default_rng(1).standard_normal((1, 1, 128, 128)).astype(np.float32)
    plain = open_session(export.export(run), "cpu", 1).run(images)
    shifted = open_session(path := export.export(run, shift={"GM": 0.5}), "cpu", 1).run(images)
    logit = [np.log(p / (1 - p)) for p in (plain, shifted)]
    np.testing.assert_allclose(logit[1] - logit[0], np.array([0.0, 0.5])[None, :, None, None] + 0 * plain, atol=1e-3)
    assert spec_from_onnx(path).training["shifted_logits"] == {"GM": 0.5}
    with pytest.raises(InputError, match="WM"):
        export.export(run, shift={"WM": 0.5})
    export.export(run)

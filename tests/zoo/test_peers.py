"""The networks of other tools: their entries, and what they return, held against torch and step-by-step recipes."""

import json
import os
import re
from pathlib import Path

import keras_files as files
import nibabel as nib
import numpy as np
import pytest
from zoo_helpers import clean_cache

from sctseg7t.errors import DownloadError
from sctseg7t.runtime import open_session
from sctseg7t.zoo.cache import file_digest
from sctseg7t.zoo.edit import pin, write_entry
from sctseg7t.zoo.manifest import load_manifest
from sctseg7t.zoo.self_test import known_image, summary
from sctseg7t.zoo.weights import weights

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(os.environ.get("SCT7T_DATA", ROOT.parent / "shared" / "data")) / "peers"
# Git blob ids that the spec of the public repositories gives.
BLOBS = {
    "large_model.hdf5": "6f75010c2e20f36ac41472278848f42954d5b2a6",
    "challenge_model.hdf5": "fb3731ba97fee5d5262971c4d8d05d0e9db68f60",
    "t2s_lesion.h5": "6612a35a38b3fe49d38f917e83efedc8d5461699",
}
IMPORTED = ("sct_gm_large", "sct_gm_challenge", "sct_sc_t2s_ctr", "sct_lesion_t2s")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """One cache for the module: a network is converted once."""
    clean_cache(tmp_path_factory.getbasetemp() / "peers", monkeypatch)


@pytest.fixture
def peers(monkeypatch):
    """The folder of the published files, as the mirror."""
    if not (PEERS / "large_model.hdf5").exists():
        pytest.skip(f"no published weights in {PEERS} (set SCT7T_DATA)")
    monkeypatch.setenv("SCT7T_MIRROR", str(PEERS))
    return PEERS


def test_every_imported_entry_can_be_checked_or_says_why_not():
    for spec in load_manifest().models:
        if spec.is_foreign:
            assert spec.raw["citation"]["doi"] and spec.raw["licence"] is None and spec.raw["not_checked"]
            assert any("no licence" in line for line in spec.raw["limitations"])
            (file,) = spec.files
            for url in file.urls:
                assert re.search(r"/[0-9a-f]{40}/", url) and spec.raw["upstream"]["commit"] in url
            assert (spec.test_output is None) == (file.algorithm == "commit")
            assert spec.test_input


@pytest.mark.parametrize("name", ["gm_sc_7t_t2star", "sct_gm_large", "sct_sc_t2s"])
def test_absent_file_is_named_with_what_pins_it_where_it_is_and_where_to_put_it(name, tmp_path, monkeypatch):
    spec = load_manifest().model(name)
    file = spec.files[0]
    monkeypatch.setenv("SCT7T_MIRROR", str(tmp_path))
    with pytest.raises(DownloadError) as caught:
        weights(spec, offline=True)
    message = str(caught.value)
    for part in (file.name, file.digest, file.urls[0], f"into {tmp_path}"):
        assert part in message
    assert "\n" not in message


@pytest.mark.data
@pytest.mark.parametrize("name", IMPORTED)
def test_converted_network_and_recorded_output_equal_an_independent_evaluation(peers, name):
    pytest.importorskip("torch")
    import keras_torch

    spec = load_manifest().model(name)
    known = known_image(spec.test_input)
    noisy = known + np.random.default_rng(3).normal(0, 0.3, known.shape)
    image = np.concatenate([known, noisy]).astype(np.float32)
    got = open_session(weights(spec), "cpu").run(image)
    path = peers / spec.files[0].name
    if spec.files[0].architecture:
        expected = 1 / (1 + np.exp(-keras_torch.gray_matter(path, image)))
    else:
        expected = keras_torch.full_model(path, image)
    # Logits of several hundred, in single precision: a few pixels at an outline differ visibly, none elsewhere.
    assert np.abs(got - expected).max() < 1e-3
    assert np.abs(got - expected).mean() < 1e-6
    assert np.count_nonzero((got > 0.5) != (expected > 0.5)) == 0
    found = summary(expected[0])
    # A network that answers nothing would prove nothing.
    assert found["max"][0] > 0.99 and found["sd"][0] > 0.03
    for key in ("mean", "sd", "max"):
        np.testing.assert_allclose(found[key], spec.test_output[key], atol=1e-6)


@pytest.mark.data
def test_published_files_have_the_blob_ids_that_their_repositories_give(peers):
    listed = {file.name: file for spec in load_manifest().models for file in spec.files}
    for name, blob in BLOBS.items():
        assert file_digest(peers / name, "git_blob_sha1") == blob
        assert file_digest(peers / name) == listed[name].digest


def test_cord_entry_runs_a_network_of_its_shape(scan, deepseg, tmp_path, monkeypatch):
    clean_cache(tmp_path, monkeypatch)
    (tmp_path / "mirror").mkdir()
    # That entry's file is pinned by a commit alone, and could not be had.
    net = files.unet((64, 64), 1, 1)
    files.write(tmp_path / "mirror/t2s_sc.h5", net, files.random_weights(net, 1))
    monkeypatch.setenv("SCT7T_MIRROR", str(tmp_path / "mirror"))
    code, _, err = deepseg("-i", scan, "-c", "sc", "-m", "sct_sc_t2s", "-ofolder", tmp_path / "out")
    # Untrained: what it finds means nothing, and may be nothing.
    assert code in (0, 1) and "internal error" not in err and "correct its entry" not in err, err
    assert nib.load(tmp_path / "out/t2s_seg.nii.gz").shape == nib.load(scan).shape


def test_public_7t_entry_runs_a_network_of_its_shape(scan, deepseg, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmark" / "peers"))
    import unet7t

    path = tmp_path / "net7t.onnx"
    unet7t.build_onnx(path)
    entry = dict(load_manifest().model("gm_sc_7t_t2star").raw)
    entry["files"] = [{**pin(path), "urls": [path.name], "format": "onnx"}]
    write_entry(path.with_suffix(".json"), entry)
    out = tmp_path / "out"
    code, _, err = deepseg("-i", scan, "-m", path, "-ofolder", out)
    assert code in (0, 1) and "internal error" not in err and "correct its entry" not in err, err
    names = sorted(path.name for path in out.glob("*.nii.gz"))
    assert names == ["t2s_7t_multiclass_gm.nii.gz", "t2s_7t_multiclass_sc.nii.gz"]
    for name in names:
        mask = nib.load(out / name)
        assert mask.shape == nib.load(scan).shape and set(np.unique(mask.dataobj)) <= {0, 1}


def test_public_7t_entry_is_that_of_its_config():
    path = PEERS / "model_7t_multiclass_gm_sc_unet2d.json"
    if not path.exists():
        pytest.skip(f"no published config {path} (set SCT7T_DATA)")
    config, spec = json.loads(path.read_text()), load_manifest().model("gm_sc_7t_t2star")
    transform, post = config["transformation"], config["postprocessing"]
    assert spec.input.spacing_mm == (transform["Resample"]["hspace"], transform["Resample"]["wspace"])
    assert list(spec.input.size) == transform["CenterCrop"]["size"]
    assert spec.input.normalisation == {"name": "zscore", "parameters": {"scope": "slice"}}
    assert [output.suffix for output in spec.outputs] == config["loader_parameters"]["target_suffix"]
    assert {output.threshold for output in spec.outputs} == {post["binarize_prediction"]["thr"]}
    assert spec.activation == config["default_model"]["final_activation"]
    steps = [step["op"] for step in spec.postprocess]
    wanted = [step for step in post if step in ("keep_largest", "fill_holes", "remove_small")]
    assert list(dict.fromkeys(steps)) == wanted
    assert {s["params"]["min_voxels"] for s in spec.postprocess if s["op"] == "remove_small"} == {
        post["remove_small"]["thr"]
    }

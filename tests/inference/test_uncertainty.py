"""Several networks as one and the uncertainty map, by the command: files, tables, record, corrections and resume."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
from brain_helpers import flair, network, view_network

from sctseg7t.brain.segmenter import Prepared
from sctseg7t.inference.pipeline import open_segmenter
from sctseg7t.inference.segmenter import Options
from sctseg7t.measure.lesions import measure_lesions
from sctseg7t.zoo.edit import pin
from sctseg7t.zoo.manifest import load_manifest


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Entry of three shipped networks as one."""
    models = [load_manifest().model(f"cord_gm_sc@{version}") for version in ("2.1.0", "2.0.0", "1.1.0")]
    raw = {key: value for key, value in models[0].raw.items() if key != "default"}
    raw |= {"id": "several", "files": [model.raw["files"][0] for model in models], "ensemble": "median"}
    path = tmp_path_factory.mktemp("zoo") / "several.json"
    path.write_text(json.dumps({**raw, "ensemble_largest": ["SC"]}))
    return path


def rows(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def values(path):
    return np.asarray(nib.load(path).dataobj)


def test_three_networks_by_the_command(deepseg, scan, several, tmp_path):
    code, _, err = deepseg("-i", scan, "-m", several, "-uncertainty", "-ofolder", tmp_path / "out")
    assert code == 0, err
    apart = values(tmp_path / "out/t2s_uncertainty.nii.gz")
    assert apart.shape == nib.load(scan).shape and 0.01 < apart.max() <= 0.5
    table = rows(tmp_path / "out/t2s_csa.csv")
    assert all(0 < float(row["spread"]) < 0.2 for row in table if row["tissue"] in ("SC", "GM"))
    assert all(row["spread"] == "" for row in table if row["tissue"] == "WM")
    model = json.loads((tmp_path / "out/t2s_deepseg.json").read_text())["model"]
    assert [model["weights"], *(other["weights"] for other in model["with"])] == [
        f"cord_gm_sc-{version}.onnx" for version in ("2.1.0", "2.0.0", "1.1.0")
    ]
    # The same masks without the map, and the map even without a table of areas.
    code, _, err = deepseg("-i", scan, "-m", several, "-ofolder", tmp_path / "plain")
    assert code == 0 and not (tmp_path / "plain/t2s_uncertainty.nii.gz").exists(), err
    for name in ("t2s_seg.nii.gz", "t2s_gmseg.nii.gz"):
        assert np.array_equal(values(tmp_path / "out" / name), values(tmp_path / "plain" / name))
    assert {row["spread"] for row in rows(tmp_path / "plain/t2s_csa.csv")} == {""}
    code, _, err = deepseg("-i", scan, "-m", several, "-uncertainty", "-no-csa", "-ofolder", tmp_path / "bare")
    assert code == 0 and np.array_equal(values(tmp_path / "bare/t2s_uncertainty.nii.gz"), apart), err


def test_a_corrected_mask_has_no_spread_and_the_others_keep_theirs(deepseg, scan, tmp_path):
    how = ("-i", scan, "-uncertainty", "-ofolder", tmp_path)
    assert deepseg(*how)[0] == 0
    before = {(row["slice"], row["tissue"]): row["spread"] for row in rows(tmp_path / "t2s_csa.csv")}
    image = nib.load(tmp_path / "t2s_seg.nii.gz")
    edited = np.asarray(image.dataobj).copy()
    edited[..., 0] = 0
    nib.save(nib.Nifti1Image(edited, image.affine, image.header), tmp_path / "t2s_seg.nii.gz")
    code, _, err = deepseg(*how)
    assert code == 0, err
    after = {(row["slice"], row["tissue"]): row["spread"] for row in rows(tmp_path / "t2s_csa.csv")}
    assert all(value == "" for (_, tissue), value in after.items() if tissue == "SC")
    kept = [key for key in after if key[1] == "GM" and key[0] != "0"]
    assert kept and all(after[key] == before[key] for key in kept)
    assert (tmp_path / "t2s_uncertainty.nii.gz").is_file()


def test_every_file_of_an_ensemble_is_verified(deepseg, scan, several, tmp_path):
    raw = json.loads(several.read_text())
    (tmp_path / "other.onnx").write_bytes(b"no network")
    raw["files"][1] = {"name": "other.onnx", "bytes": 10, "sha256": "0" * 64, "urls": []}
    (tmp_path / "wrong.json").write_text(json.dumps(raw))
    code, _, err = deepseg("-i", scan, "-m", tmp_path / "wrong.json", "-ofolder", tmp_path, "-offline")
    assert code == 2 and "other.onnx" in err
    raw["files"][1] = {"name": "other.onnx", "format": "keras-hdf5", **pin(tmp_path / "other.onnx")}
    (tmp_path / "wrong.json").write_text(json.dumps(raw))
    code, _, err = deepseg("-i", scan, "-m", tmp_path / "wrong.json", "-ofolder", tmp_path)
    assert code == 2 and "every file of an ensemble must be an ONNX network" in err


def ready_of(image, mask, affine):
    """A scan as if its brain had been found; no template was laid on it."""
    return Prepared(image, mask, None, {}, ())


@pytest.mark.parametrize("make", [network, view_network])
def test_a_brain_is_looked_at_again_in_the_mirror(make, tmp_path):
    image, _, affine = flair()
    ready = ready_of(image, image > 80, affine)
    place = make(tmp_path)
    grid, plain = open_segmenter("brain_lesion", place, "cpu").look(ready, affine)
    segmenter = open_segmenter("brain_lesion", place, "cpu", Options(uncertainty=True))
    _, probability, apart = segmenter.look_and_spread(ready, affine)
    assert np.array_equal(probability, plain) and apart.shape == grid.shape
    # The network looks at single voxels: a mirrored brain gives the mirrored answer.
    assert probability.max() > 0.9 and apart.max() < 1e-3


def test_two_lesion_networks_that_disagree(tmp_path):
    image, truth, affine = flair()
    low, high = tmp_path / "low", tmp_path / "high"
    for folder, above in ((low, 1.1), (high, 1.6)):
        folder.mkdir()
        network(folder, above=above)
    raw = json.loads((low / "stub_lesion.json").read_text())
    (low / "second.onnx").write_bytes((high / "stub_lesion.onnx").read_bytes())
    raw["files"].append({"name": "second.onnx", "format": "onnx", **pin(low / "second.onnx")})
    (low / "both.json").write_text(json.dumps({**raw, "id": "both", "ensemble": "mean"}))
    ready = ready_of(image, image > 80, affine)
    places = (low / "both.json", low / "stub_lesion.onnx", high / "stub_lesion.onnx")
    both, first, second = (
        open_segmenter("brain_lesion", str(place), "cpu", Options(uncertainty=True)).look_and_spread(ready, affine)
        for place in places
    )
    np.testing.assert_allclose(both[1], (first[1] + second[1]) / 2, atol=1e-6)
    np.testing.assert_allclose(both[2], np.abs(first[1] - second[1]) / 2, atol=1e-6)
    table = measure_lesions(truth, affine, spread=np.where(truth, 0.25, 0))
    assert [lesion.spread for lesion in table.lesions] == [0.25] * len(table.lesions)


def test_follow_ups_do_not_take_it(deepseg, scan, tmp_path):
    code, _, err = deepseg(
        "-i", scan, "-baseline", scan, "-c", "brain_new_lesion", "-uncertainty", "-ofolder", tmp_path
    )
    assert code == 2 and "uncertainty" in err

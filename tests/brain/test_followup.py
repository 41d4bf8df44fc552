"""Two scans of one brain: what is new, what has changed, and what cannot be compared."""

import csv
import json

import brain_helpers
import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from sctseg7t.cli.batch import main as batch_main
from sctseg7t.cli.deepseg import main

from sctseg7t.brain.changes import CODES
from sctseg7t.brain.mask import HOW
from sctseg7t.brain.pair_checks import pair_warnings
from sctseg7t.brain.register import Template
from sctseg7t.errors import InputError, ModelError, UsageError
from sctseg7t.image.grid import resample
from sctseg7t.image.volume import load
from sctseg7t.inference.pipeline import open_segmenter
from sctseg7t.inference.record import read_record
from sctseg7t.measure.columns import LOCATIONS
from sctseg7t.qc.card import make_card

OLD, NEW = brain_helpers.LESIONS, ((-26, -20, 28), 4.0, "deep_white_matter")
NEW_MM3 = 4 / 3 * np.pi * NEW[1] ** 3


def turn(angles_deg=(4, -3, 6), shift_mm=(3.0, -5.0, 2.0)):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    matrix[:3, 3] = shift_mm
    return matrix


@pytest.fixture(scope="module", autouse=True)
def known_template():
    """The made-up brains lie in MNI space: the template is not laid on each of them again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sctseg7t.brain.segmenter.template_to_scan", lambda *given: Template(np.eye(4), 1.0))
        yield


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return brain_helpers.pair_network(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def segmenter(net):
    return open_segmenter("brain_new_lesion", net, device="cpu", threads=1)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A follow-up with one more lesion, and a baseline of another head position, brightness and noise."""
    place = tmp_path_factory.mktemp("scans")
    now, _, affine = brain_helpers.flair(lesions=(*OLD, NEW))
    before, _, _ = brain_helpers.flair(seed=1)
    moved = turn()
    turned = resample(0.6 * before, np.linalg.inv(affine) @ moved @ affine, before.shape)
    brain_helpers.save(place / "before.nii.gz", turned, affine)
    return brain_helpers.save(place / "now.nii.gz", now, affine, "PSR"), place / "before.nii.gz", moved


@pytest.fixture(scope="module")
def found(segmenter, scans):
    return segmenter.run(scans[0], baseline=scans[1])


def test_the_new_lesion_is_marked_where_it_is_with_its_volume(found):
    (lesion,) = found.followup.table.lesions
    assert found.followup.kinds == ("new",)
    np.testing.assert_allclose((lesion.centroid_r_mm, lesion.centroid_a_mm, lesion.centroid_s_mm), NEW[0], atol=1)
    assert lesion.volume_mm3 == pytest.approx(NEW_MM3, rel=0.35)
    assert lesion.location in LOCATIONS and found.followup.changes[0] > 0.3
    mask = found.masks["NEWLESION"]
    assert "".join(nib.aff2axcodes(mask.affine)) == "PSR"
    whole = np.asanyarray(found.masks["LESION"].dataobj) > 0
    assert whole[np.asanyarray(mask.dataobj) > 0].all()


def test_old_lesions_are_stable_and_counts_follow(found):
    status = [row.status for row in found.followup.lesions]
    assert sorted(status) == ["new", "stable", "stable", "stable"]
    total = found.followup.summary()
    assert (total["n_new"], total["n_enlarging"], total["more_than_2_new"]) == (1, 0, 0)
    codes = np.asanyarray(found.maps["changemap"].dataobj)
    assert set(np.unique(codes)) == {0, CODES["new"], CODES["stable"]}


def test_the_alignment_is_halfway_and_known(found, scans):
    motion, moved = found.pair.motion, scans[2]
    between = np.linalg.inv(motion.from_second) @ motion.from_first
    middle = np.array([0, -18, 8, 1])
    np.testing.assert_allclose(between @ middle, np.linalg.inv(moved) @ middle, atol=0.5)
    angle = np.linalg.norm(Rotation.from_matrix(moved[:3, :3]).as_rotvec(degrees=True))
    for half in (motion.from_first, motion.from_second):
        own = np.linalg.norm(Rotation.from_matrix(half[:3, :3]).as_rotvec(degrees=True))
        assert own == pytest.approx(angle / 2, abs=0.3)
    assert motion.disagreement_mm < 0.3


def test_the_other_way_round_it_has_vanished(segmenter, scans):
    result = segmenter.run(scans[1], baseline=scans[0])
    assert result.followup.summary()["n_new"] == 0 and not result.followup.table.lesions
    assert [row.status for row in result.followup.lesions].count("vanished") == 1


def test_a_scan_with_itself_has_nothing_new_and_is_told(segmenter, scans):
    result = segmenter.run(scans[0], baseline=scans[0])
    assert not np.asanyarray(result.masks["NEWLESION"].dataobj).any()
    assert {row.status for row in result.followup.lesions} == {"stable"}
    assert any(text.startswith("same_scan:") for text in result.warnings)


def test_files_of_a_run(net, scans, tmp_path):
    argv = ["-i", str(scans[0]), "-baseline", str(scans[1]), "-m", net, "-ofolder", str(tmp_path)]
    assert main([*argv, "-device", "cpu", "-v", "0", "-spaces", "baseline", "halfway"]) == 0

    def rows(name):
        with open(tmp_path / name, newline="") as stream:
            return list(csv.DictReader(stream))

    (lesion,) = rows("now_newlesions.csv")
    assert (lesion["kind"], lesion["first_seen"]) == ("new", "now.nii.gz")
    (total,) = rows("now_followup.csv")
    assert total["n_new"] == "1" and total["baseline"] == str(scans[1])
    assert len(rows("now_lesionchanges.csv")) == 4
    on_baseline = nib.load(tmp_path / "now_space-baseline_newlesions.nii.gz")
    assert on_baseline.shape == nib.load(scans[1]).shape
    volume = np.asanyarray(on_baseline.dataobj).sum() * abs(np.linalg.det(on_baseline.affine[:3, :3]))
    assert volume == pytest.approx(float(lesion["volume_mm3"]), rel=0.15)
    card = make_card(read_record(tmp_path / "now_deepseg.json"), tmp_path)
    assert not card["problems"] and set(card["times"]) == {"now", "before", "difference"}
    (shown,) = [dict(zip(card["new_columns"], row)) for row in card["new"]]
    assert shown["kind"] == "new" and shown["volume_mm3"] == pytest.approx(float(lesion["volume_mm3"]), abs=0.1)
    record = json.loads((tmp_path / "now_deepseg.json").read_text())
    assert set(record["inputs"]) == {"scan", "baseline"} and record["brain"]["followup"]["counts"]["n_new"] == 1


def test_other_tools_can_apply_the_transforms(net, found, scans, tmp_path):
    """ITK resamples the baseline with the written file onto the halfway grid as we do."""
    sitk = pytest.importorskip("SimpleITK")
    found.save(tmp_path / "now")
    transform = sitk.ReadTransform(str(tmp_path / "now_baseline_to_halfway.tfm"))
    grid = found.pair.grid
    # A point of the halfway world, RAS, and where it lies in the baseline.
    point = np.array([10.0, -30.0, 20.0])
    flip = np.array([-1, -1, 1])
    mapped = flip * np.array(transform.TransformPoint((flip * point).tolist()))
    expected = np.linalg.inv(found.pair.motion.from_second) @ [*point, 1]
    np.testing.assert_allclose(mapped, expected[:3], atol=1e-4)
    assert grid.spacing_mm == (1, 1, 1)


def test_corrected_new_lesions_count_and_are_kept(net, scans, tmp_path):
    argv = ["-i", str(scans[0]), "-baseline", str(scans[1]), "-m", net, "-ofolder", str(tmp_path), "-v", "0"]
    assert main([*argv, "-device", "cpu"]) == 0
    path = tmp_path / "now_newlesionseg.nii.gz"
    mask = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(mask.shape, np.uint8), mask.affine, mask.header), path)
    assert main([*argv, "-device", "cpu"]) == 0
    assert not np.asanyarray(nib.load(path).dataobj).any()
    with open(tmp_path / "now_followup.csv", newline="") as stream:
        assert next(csv.DictReader(stream))["n_new"] == "0"


# ---- what cannot be compared ---------------------------------------------------------


def test_what_is_no_pair_is_refused_in_a_line(segmenter, scans, tmp_path):
    now, _, affine = brain_helpers.flair(lesions=(*OLD, NEW))
    slab = now.copy()
    slab[..., : slab.shape[2] // 2] = 0
    inverted = np.where(now > 0, 800 - np.minimum(now, 700), 0)
    rng = np.random.default_rng(0)
    cases = {
        "a part cannot be compared": slab,
        "does not look like": np.where(now > 0, rng.uniform(100, 500, now.shape), 0),
        "one contrast": inverted,
    }
    for words, image in cases.items():
        path = brain_helpers.save(tmp_path / "other.nii.gz", image.astype(np.float32), affine)
        with pytest.raises(InputError, match=words) as caught:
            segmenter.run(scans[0], baseline=path)
        assert "other.nii.gz" in str(caught.value) and "\n" not in str(caught.value)
    several = nib.Nifti1Image(np.stack([now, now], -1), affine)
    nib.save(several, tmp_path / "several.nii.gz")
    with pytest.raises(InputError, match="2 volumes"):
        segmenter.run(scans[0], baseline=tmp_path / "several.nii.gz")


def test_a_baseline_of_a_later_day_is_told(found, scans, tmp_path):
    volumes = []
    for name, path, day in (("now", scans[0], "2020-01-05"), ("before", scans[1], "2021-03-01T10:00:00")):
        copy = tmp_path / f"{name}.nii.gz"
        copy.write_bytes(path.read_bytes())
        (tmp_path / f"{name}.json").write_text(json.dumps({"AcquisitionDateTime": day}))
        volumes.append(load(copy, axial=False))
    stripped = {"brain_mask": HOW["stripped"]}
    (text,) = pair_warnings(found.pair, volumes, [stripped, stripped])
    assert text.startswith("swapped_order:") and "2021-03-01" in text
    (text,) = pair_warnings(found.pair, volumes[::-1], [stripped, {"brain_mask": HOW["network"]}])
    assert text.startswith("one_stripped:") and "before.nii.gz" in text


def test_the_baseline_is_needed_and_grids_are_for_pairs_only(net, scans):
    from sctseg7t import segment

    with pytest.raises(UsageError, match="baseline.*needs it"):
        segment(scans[0], model=net, device="cpu")
    with pytest.raises(UsageError, match="spaces"):
        segment(scans[0], "brain_lesion", device="cpu", spaces=("halfway",))
    with pytest.raises(UsageError, match="use baseline, halfway"):
        segment(scans[0], model=net, baseline=scans[1], device="cpu", spaces=("mni",))


@pytest.mark.parametrize(
    "changes, words", [({"comparison": {"peek": 1}}, "peek is unknown"), ({"derived": []}, "NEWLESION")]
)
def test_entries_that_cannot_be_served(tmp_path, changes, words):
    path = brain_helpers.pair_network(tmp_path, **changes)
    with pytest.raises(ModelError, match=words):
        open_segmenter("brain_new_lesion", path, device="cpu")


# ---- many participants ---------------------------------------------------------------


def test_batch_pairs_sessions(net, scans, tmp_path, capsys):
    bids, out = tmp_path / "bids", tmp_path / "out"
    for subject, session, source in (("01", "2", scans[1]), ("01", "10", scans[0]), ("02", "1", scans[0])):
        folder = bids / f"sub-{subject}/ses-{session}/anat"
        folder.mkdir(parents=True)
        (folder / f"sub-{subject}_ses-{session}_FLAIR.nii.gz").write_bytes(source.read_bytes())
    argv = ["-i", str(bids), "-o", str(out), "-m", net, "-baseline", "previous", "-workers", "1", "-device", "cpu"]
    assert batch_main(argv) == 0
    said = capsys.readouterr()
    assert "one session only" in said.err and "sub-02_ses-1_FLAIR" in said.err
    with open(out / "cohort_scans.csv", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["scan"], row["n_new"], row["more_than_2_new"]) == ("sub-01_ses-10_FLAIR", "1", "0")
    with open(out / "cohort_newlesions.csv", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["first_seen"], row["kind"]) == ("ses-10", "new")
    assert batch_main([*argv, "-dry-run"]) == 0
    assert "0 of 1 scans to run" in capsys.readouterr().out

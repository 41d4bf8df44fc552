"""Labelled scans: found by name, split by person, refused by file where they are wrong."""

import nibabel as nib
import numpy as np
import pytest
from train_helpers import save_scan

from sctseg7t.errors import InputError
from sctseg7t.image.volume import load
from sctseg7t.train.scans import splits, windows
from sctseg7t.train.scans.labelled import LABELS, LabelledScan, find_scans, label_map
from sctseg7t.zoo.manifest import load_manifest

SC = {"SC": LABELS["SC"]}


def test_bids_derivatives_and_masks_beside_the_scan_are_found(tmp_path):
    image, mask = save_scan(tmp_path / "sub-1/anat", "sub-1_T2starw")
    labels = tmp_path / "derivatives/labels/sub-1/anat"
    labels.mkdir(parents=True)
    mask = mask.rename(labels / mask.name)
    gray = labels / "sub-1_T2starw_gmseg-manual.nii.gz"
    gray.write_bytes(mask.read_bytes())
    orphan = labels / "sub-2_T2starw_seg-manual.nii.gz"
    orphan.write_bytes(mask.read_bytes())
    beside, beside_mask = save_scan(tmp_path / "more", "b")
    # Another tool's result is no reference.
    (tmp_path / "more/b_gmseg.nii.gz").write_bytes(mask.read_bytes())
    assert find_scans([str(tmp_path), str(tmp_path / "more")]) == [
        LabelledScan("b", beside, {"SC": beside_mask}, "b"),
        LabelledScan("sub-1_T2starw", image, {"SC": mask, "GM": gray}, "1"),
    ]
    assert find_scans([f"{image}:GM={mask}"]) == [LabelledScan("sub-1_T2starw", image, {"GM": mask}, "1")]


@pytest.mark.parametrize("value", ["{}/nothing", "{}/a.nii.gz", "{}/a.nii.gz:SC={}/no.nii.gz", "{}/empty"])
def test_wrong_values_are_one_line(tmp_path, value):
    save_scan(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="IMAGE:SC=MASK:GM=MASK") as caught:
        find_scans([value.replace("{}", str(tmp_path))])
    assert "\n" not in str(caught.value)


def test_sessions_are_one_person_unless_told_otherwise(tmp_path):
    for name in ("sub-7Ses1", "sub-7Ses2", "sub-8"):
        save_scan(tmp_path / name / "anat", f"{name}_T2starw")
    assert [scan.subject for scan in find_scans([tmp_path])] == ["7", "7", "8"]
    assert [scan.subject for scan in find_scans([tmp_path], subject=".+")] == ["7Ses1", "7Ses2", "8"]


def test_a_list_names_files_people_and_images(tmp_path):
    image, mask = save_scan(tmp_path / "x")
    (tmp_path / "scans.csv").write_text("image,vessel,subject,second\nx/a.nii.gz,x/a_seg-manual.nii.gz,p1,x/a.nii.gz\n")
    labels = label_map({"vessel": []})
    (scan,) = find_scans([tmp_path / "scans.csv"], labels)
    assert (scan.subject, scan.masks, scan.files) == ("p1", {"vessel": mask}, {"second": image})
    (tmp_path / "scans.csv").write_text("image,vessel\nx/a.nii.gz,x/no.nii.gz\n")
    with pytest.raises(InputError, match=r"line 2: vessel .*no\.nii\.gz: no such file"):
        find_scans([tmp_path / "scans.csv"], labels)


def test_splits_keep_shares_and_strata_and_people_apart(tmp_path):
    people = (
        {f"h{k}": "HC" for k in range(51)} | {f"m{k}": "MS" for k in range(11)} | {f"a{k}": "ALS" for k in range(10)}
    )
    made = splits.shared_out(people)
    assert len({split.digest() for split in made}) == 9
    for split in made:
        parts = [split.train, split.validation, split.test]
        assert [len(part) for part in parts] == [50, 11, 11] and set().union(*parts) == set(people)
        for stratum, wanted in (("HC", 0.7), ("MS", 0.7), ("ALS", 0.7)):
            own = [name for name in people if people[name] == stratum]
            assert sum(name in split.train for name in own) / len(own) == pytest.approx(wanted, abs=0.1)
    splits.write_splits(tmp_path / "splits.json", made, {"shares": splits.SHARES})
    assert splits.read_splits(tmp_path / "splits.json") == made


def test_each_person_is_tested_in_one_fold():
    made = splits.folds({name: "" for name in "abcde"}, 5, validation=0.25)
    assert sorted(split.test for split in made) == [(name,) for name in "abcde"]
    assert all(len(split.train) == 3 and len(split.validation) == 1 for split in made)


@pytest.mark.parametrize(
    "text, said",
    [
        ('{"splits": [{"train": ["a"], "test": ["a"]}]}', "a is in two parts"),
        ('{"splits": [{"train": ["a"], "tests": ["b"]}]}', "not a file of splits"),
        ("[]", "not a file of splits"),
    ],
)
def test_wrong_splits_name_the_file(tmp_path, text, said):
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        splits.read_splits(tmp_path / "splits.json")
    assert "splits.json" in str(caught.value)


def test_one_person_cannot_be_split():
    with pytest.raises(InputError, match="1 person"):
        splits.shared_out({"a": ""})


def _changed(mask, change):
    image = nib.load(mask)
    nib.save(change(np.asarray(image.dataobj).copy(), image.affine), mask)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda data, affine: nib.Nifti1Image(data * 0, affine), "marks no voxel of SC"),
        (lambda data, affine: nib.Nifti1Image(data[:-1], affine), "another grid"),
        (lambda data, affine: nib.Nifti1Image(data, affine + np.eye(4)[:, [3, 0, 1, 2]]), "another grid"),
        (lambda data, affine: nib.Nifti1Image(data * 3, affine), "holds values from 0 to 3"),
        (lambda data, affine: nib.Nifti1Image(data * 0 + 1, affine), "which no spinal cord has"),
    ],
)
def test_wrong_masks_are_told_by_file(tmp_path, change, said):
    image, mask = save_scan(tmp_path)
    _changed(mask, change)
    scan = LabelledScan("a", image, {"SC": mask})
    with pytest.raises(InputError, match=said) as caught:
        windows.prepare(scan, SC, load_manifest().model("cord_gm_sc"))
    assert str(mask) in str(caught.value) and "\n" not in str(caught.value)


def test_values_that_no_label_names_are_told(tmp_path):
    image, mask = save_scan(tmp_path)
    _changed(mask, lambda data, affine: nib.Nifti1Image(data * 2, affine))
    scan = LabelledScan("a", image, {"SC": mask})
    labels = label_map({"SC": {"files": ["seg-manual"], "values": [1]}})
    with pytest.raises(InputError, match="values 2, which no label"):
        windows.prepare(scan, labels, load_manifest().model("cord_gm_sc"))


def test_windows_hold_the_masks_area_and_are_what_inference_sees(tmp_path):
    image, mask = save_scan(tmp_path, radius_mm=4.0)
    spec = load_manifest().model("cord_gm_sc")
    ready = windows.prepare(LabelledScan("a", image, {"SC": mask}, "p"), SC, spec)
    items = windows.WindowItems([ready], ("SC", "GM"), spec)
    assert len(items) == 3
    item = items.item(0, margin=8)
    assert item.image.shape == (1, 144, 144) and item.known.tolist() == [True, False]
    drawn = np.asarray(nib.load(mask).dataobj)[..., 1].sum() * load(image).grid.pixel_area_mm2
    assert item.target[0].sum() * item.spacing_mm**2 == pytest.approx(drawn, rel=0.02)
    final = items.finish(item)
    assert final.image.shape == (1, 128, 128)
    assert final.image[0][final.inside].mean() == pytest.approx(0, abs=1e-5)
    rng = [np.random.default_rng(4) for _ in range(2)]
    first, second = (items.draw(one) for one in rng)
    assert np.array_equal(first.image, second.image) and first.place == second.place

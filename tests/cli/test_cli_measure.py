"""sct7t_measure as a user meets it: one scan, a folder, corrected outputs, files that cannot be used."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

AFFINE = np.diag([0.5, 0.5, 4, 1.0])
COUNT = 6


@pytest.fixture
def measure(call):
    """Run sct7t_measure in this process: (exit code, stdout, stderr)."""
    from sctseg7t.cli.measure import main

    return lambda *argv: call(main, [str(arg) for arg in argv])


def rows(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def masks(grow=0.0):
    """A cord that gets thicker going up, with gray matter in it."""
    i, j, k = np.meshgrid(np.arange(60), np.arange(60), np.arange(COUNT), indexing="ij")
    off = np.hypot((i - 29.5) / 1.4, j - 29.5)
    sc, gm = off <= 9 + grow + 0.3 * k, off <= 4
    return {"seg": sc.astype(np.uint8), "gmseg": gm.astype(np.uint8)}


def write(folder, stem, maps, affine=AFFINE):
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, data in maps.items():
        nib.save(nib.Nifti1Image(data, affine), folder / f"{stem}_{suffix}.nii.gz")


def areas(data):
    """The sum of the voxels, slice by slice: what a reader would compute."""
    return np.asarray(data, float).sum(axis=(0, 1)) * 0.25


def column(table, name, **chosen):
    return [float(r[name]) for r in table if all(r[key] == value for key, value in chosen.items())]


@pytest.fixture
def scan(tmp_path):
    write(tmp_path, "t2s", masks())
    return tmp_path


def test_one_scan(measure, scan):
    code, out, err = measure("-sc", scan / "t2s_seg.nii.gz", "-gm", scan / "t2s_gmseg.nii.gz", "-o", scan / "a.csv")
    assert (code, err) == (0, "") and out.split() == [str(scan / "a.csv"), str(scan / "a_perlevel.csv")]
    table = rows(scan / "a.csv")
    for tissue, suffix in (("SC", "seg"), ("GM", "gmseg")):
        assert column(table, "area_mm2", tissue=tissue) == pytest.approx(areas(masks()[suffix]), abs=1e-3)
    (whole,) = [r for r in rows(scan / "a_perlevel.csv") if r["tissue"] == "SC"]
    assert float(whole["area_mm2_mean"]) == pytest.approx(areas(masks()["seg"]).mean(), abs=1e-3)
    record = json.loads((scan / "a_measure.json").read_text())
    assert record["outputs"]["GM"]["path"] == "t2s_gmseg.nii.gz" and len(record["outputs"]["GM"]["sha256"]) == 64


@pytest.mark.parametrize("code", ["LPI", "PSR"])
def test_the_tissue_by_the_name_and_any_storage(measure, scan, code):
    names = [scan / f"t2s_{suffix}.nii.gz" for suffix in masks()]
    assert measure("-masks", *names, "-o", scan / "a.csv")[0] == 0
    for path in names:
        image = nib.load(path)
        turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(code))
        nib.save(image.as_reoriented(turn), path)
    assert measure("-masks", *names, "-o", scan / "b.csv")[0] == 0
    first, second = rows(scan / "a.csv"), rows(scan / "b.csv")
    stored = [str(COUNT - 1 - int(r["slice"])) if code == "LPI" else r["slice"] for r in second]
    assert [r.pop("file_slice") for r in second] == stored
    for one, other in zip(first, second, strict=True):
        del one["file_slice"]
        assert one.keys() == other.keys() and {k for k in one if one[k] != other[k]} <= {"filename"}


def test_slices_levels_and_flags(measure, scan):
    (scan / "levels.csv").write_text("slice,level\n0:1,5\n2:3,4\n4:5,3\n")
    seg, expected = scan / "t2s_seg.nii.gz", areas(masks()["seg"])
    base = ("-sc", seg, "-levels", scan / "levels.csv", "-o", scan / "a.csv")
    assert measure(*base, "-vert", "3:4", "-z", "0:4")[0] == 0
    assert column(rows(scan / "a.csv"), "area_mm2") == pytest.approx(expected[2:5], abs=1e-3)
    means = {r["level"]: (float(r["area_mm2_mean"]), r["slices"]) for r in rows(scan / "a_perlevel.csv")}
    assert means["4"] == (pytest.approx(expected[2:4].mean(), abs=1e-3), "2:3")
    assert means["all"] == (pytest.approx(expected[2:5].mean(), abs=1e-3), "2:4")
    # A slice that is far too large is flagged, stays in the table, and enters no mean if asked so.
    maps = masks()
    maps["seg"][10:50, 10:50, 1] = 1
    write(scan, "t2s", maps)
    assert measure(*base, "-exclude-flagged", "sc_area_implausible")[0] == 0
    flags = [r["flags"].split(";") for r in rows(scan / "a.csv")]
    assert ["excluded" in own for own in flags] == [False, True, False, False, False, False]
    means = {r["level"]: (r["n_slices"], r["slices"]) for r in rows(scan / "a_perlevel.csv")}
    assert means["5"] == ("2", "0") and means["all"] == ("6", "0;2:5")


def test_sct_s_way(measure, scan):
    (scan / "levels.csv").write_text("slice,level\n0:1,5\n2:3,4\n4:5,3\n")
    line = ("-i", scan / "t2s_seg.nii.gz", "-levels", scan / "levels.csv", "-csa-format", "sct", "-o", scan / "csa.csv")
    assert measure(*line, "-vert", "3:4", "-perlevel", "1")[0] == 0
    table = rows(scan / "csa.csv")
    assert [(r["Slice (I->S)"], r["VertLevel"]) for r in table] == [("2:3", "4"), ("4:5", "3")]
    assert table[0]["Filename"] == str(scan / "t2s_seg.nii.gz")
    assert measure(*line, "-vert", "3:4")[0] == 0
    assert [(r["Slice (I->S)"], r["VertLevel"]) for r in rows(scan / "csa.csv")] == [("2:5", "3:4")]
    assert measure(*line, "-perslice", "1")[0] == 0
    assert [r["VertLevel"] for r in rows(scan / "csa.csv")] == list("554433")


def test_labels_fractions_volumes_and_one_slice(measure, scan):
    maps, path = masks(), scan / "all.nii.gz"
    nib.save(nib.Nifti1Image(maps["seg"] + maps["gmseg"], AFFINE), path)
    assert measure("-sc", f"{path}:1,2", "-gm", f"{path}:2", "-o", scan / "a.csv")[0] == 0
    table = rows(scan / "a.csv")
    assert column(table, "area_mm2", tissue="SC") == pytest.approx(areas(maps["seg"]), abs=1e-3)
    assert column(table, "area_mm2", tissue="GM") == pytest.approx(areas(maps["gmseg"]), abs=1e-3)
    code, _, err = measure("-sc", path, "-o", scan / "b.csv")
    assert code == 1 and f"{path}: holds the labels 1, 2; say which of them are the tissue, as in {path}:1" in err
    soft = np.stack([maps["seg"] * np.float32(0.5), maps["seg"] * np.float32(1)], 3)
    nib.save(nib.Nifti1Image(soft, AFFINE), scan / "soft.nii.gz")
    assert measure("-sc", scan / "soft.nii.gz", "-o", scan / "c.csv")[0] == 0
    table = rows(scan / "c.csv")
    assert column(table, "area_mm2", volume="0") == pytest.approx(areas(maps["seg"]) / 2, abs=1e-3)
    assert column(table, "area_mm2", volume="1") == pytest.approx(areas(maps["seg"]), abs=1e-3)
    nib.save(nib.Nifti1Image(maps["seg"][..., 2], AFFINE), scan / "one.nii.gz")
    assert measure("-sc", scan / "one.nii.gz", "-o", scan / "d.csv")[0] == 0
    (row,) = rows(scan / "d.csv")
    assert float(row["area_mm2"]) == pytest.approx(areas(maps["seg"])[2], abs=1e-3) and row["reason"] == "single_slice"


def test_what_cannot_be_measured(measure, scan):
    seg, out = scan / "t2s_seg.nii.gz", scan / "a.csv"
    moved = AFFINE.copy()
    moved[0, 3] = 3
    write(scan, "other", {"gmseg": masks()["gmseg"]}, moved)
    code, _, err = measure("-sc", seg, "-gm", scan / "other_gmseg.nii.gz", "-o", out)
    assert code == 1 and f"error: {scan / 'other_gmseg.nii.gz'}: its grid is not that of {seg}" in err
    assert not out.exists()
    for argv, words in (
        ((), "there is no mask"),
        (("-sc", scan / "no.nii.gz"), "does not exist"),
        (("-masks", seg, "-sc", seg), "is SC too"),
        (("-sc", seg, "-vert", "3"), "nothing says the levels"),
        (("-sc", seg, "-z", "5:3"), "give numbers or ranges"),
        (("-i", scan, "-sc", seg), "is a folder"),
        (("-sc", seg, "-levels", seg, "-discfile", seg), "both say the vertebral levels"),
    ):
        code, _, err = measure(*argv, "-o", out)
        assert code == 2 and words in err and err.count("\n") == 1
    code, _, err = measure("-sc", seg, "-z", "90", "-o", out)
    assert code == 1 and "none of its slices" in err
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 3), np.uint8), AFFINE), scan / "empty_seg.nii.gz")
    code, _, err = measure("-sc", scan / "empty_seg.nii.gz", "-o", out)
    assert code == 1 and "the masks are empty" in err and {r["reason"] for r in rows(out)} == {"empty"}


def test_a_folder_of_masks(measure, tmp_path):
    bids = tmp_path / "bids"
    labels = bids / "derivatives" / "labels"
    for n in (1, 2, 3):
        write(labels / f"sub-0{n}" / "anat", f"sub-0{n}_T2starw", masks(0.2 * n))
    (labels / "sub-02" / "anat" / "sub-02_T2starw_gmseg.nii.gz").write_bytes(b"no image")
    (labels / "levels.tsv").write_text("participant_id\tslice\tlevel\nsub-01\t0:2\t4\nsub-01\t3:5\t3\n")
    (labels / "participants.tsv").write_text("participant_id\tsex\nsub-01\tF\nsub-02\tM\n")
    code, out, err = measure("-i", labels, "-o", tmp_path / "out", "-levels", "levels.tsv")
    assert code == 1 and "3 scans: 2 measured, 1 failed" in out
    assert "error: sub-02_T2starw: " in err and "sub-02_T2starw_gmseg.nii.gz" in err
    assert "sub-03_T2starw: " in err and "lists no level" in err
    scans = {r["participant_id"]: r for r in rows(tmp_path / "out" / "cohort_scans.csv")}
    assert {key: r["status"] for key, r in scans.items()} == {"sub-01": "ok", "sub-02": "failed", "sub-03": "ok"}
    assert float(scans["sub-03"]["sc_area_mm2_mean"]) == pytest.approx(areas(masks(0.6)["seg"]).mean(), abs=1e-3)
    assert scans["sub-01"]["sex"] == "F" and scans["sub-02"]["sc_area_mm2_mean"] == ""
    levels = [r for r in rows(tmp_path / "out" / "cohort_levels.csv") if r["tissue"] == "SC"]
    assert {(r["participant_id"], r["level"]) for r in levels} == {
        *(("sub-01", level) for level in ("3", "4", "all")),
        ("sub-03", "all"),
    }
    slices = [r for r in rows(tmp_path / "out" / "cohort_slices.csv") if r["participant_id"] == "sub-01"]
    assert column(slices, "area_mm2", tissue="SC") == pytest.approx(areas(masks(0.2)["seg"]), abs=1e-3)


def test_corrected_outputs_are_measured_as_they_are(measure, deepseg, small, tmp_path):
    out = tmp_path / "out"
    assert deepseg("-i", small, "-ofolder", out)[0] == 0
    path = out / "t2s_seg.nii.gz"
    image = nib.load(path)
    data = np.asarray(image.dataobj).copy()
    data[:, :, 0] = np.roll(data[:, :, 0] | np.roll(data[:, :, 0], 2, axis=0), -1, axis=0)
    nib.save(nib.Nifti1Image(data, image.affine, image.header), path)
    assert measure("-i", out, "-o", tmp_path / "areas")[0] == 0
    slices = rows(tmp_path / "areas" / "cohort_slices.csv")
    before = rows(out / "t2s_csa.csv")
    pixel = np.prod(image.header.get_zooms()[:2])
    found = column(slices, "area_mm2", tissue="SC")
    assert found == pytest.approx(data.sum(axis=(0, 1)) * pixel, abs=1e-3)
    assert (
        found[0] > column(before, "area_mm2", tissue="SC")[0]
        and found[1:] == column(before, "area_mm2", tissue="SC")[1:]
    )
    # White matter is what remains of the corrected cord.
    gm, wm = (column(slices, "area_mm2", tissue=tissue) for tissue in ("GM", "WM"))
    assert np.add(gm, wm) == pytest.approx(found, abs=1e-3)
    record = json.loads((tmp_path / "areas" / "t2s_measure.json").read_text())
    assert (
        list(record["corrections"]["masks"]) == ["SC"]
        and {r["corrected"] for r in slices} == {"SC"}
        and record["input"]["path"].endswith("t2s.nii.gz")
    )


def test_a_fault_of_the_tool_costs_one_scan(measure, tmp_path, monkeypatch):
    from sctseg7t.cohort import measure as module

    for n in (1, 2):
        write(tmp_path / "in", f"sub-0{n}_T2starw", masks())
    right = module.measure_masks

    def wrong(given, **others):
        if "sub-01" in str(given["SC"][0]):
            raise ZeroDivisionError("no such number")
        return right(given, **others)

    monkeypatch.setattr(module, "measure_masks", wrong)
    code, _, err = measure("-i", tmp_path / "in", "-o", tmp_path / "out")
    assert code == 1 and "internal error (ZeroDivisionError: no such number)" in err
    scans = {r["participant_id"]: r["error_kind"] for r in rows(tmp_path / "out" / "cohort_scans.csv")}
    assert scans == {"sub-01": "internal", "sub-02": ""}


def test_from_python(scan):
    import sctseg7t
    from sctseg7t.errors import UsageError

    images = {tissue: nib.load(scan / f"t2s_{suffix}.nii.gz") for tissue, suffix in (("SC", "seg"), ("GM", "gmseg"))}
    table = sctseg7t.measure_masks(images).tables[0]
    assert table.column("GM", "area_mm2") == pytest.approx(areas(masks()["gmseg"]))
    with pytest.raises(UsageError, match="some of SC, GM, WM"):
        sctseg7t.measure_masks({"cord": images["SC"]})
    with pytest.raises(UsageError, match="level: no role"):
        sctseg7t.measure_masks(images, level="x.nii.gz")

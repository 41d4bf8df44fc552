"""sct7t_batch as a user meets it: a folder in, derivatives and tables out, whatever happens on the way."""

import json
import os
import shutil
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from batch_helpers import fifo, make_bids, masks, record, rows, scan_of, start, wait_for, worker_of

from sctseg7t.cohort import find_records

posix = pytest.mark.skipif(os.name == "nt", reason="named pipes and signals are other things on Windows")


@pytest.fixture
def bids(small, tmp_path):
    return make_bids(tmp_path / "bids", small, ["01", "02", "03"])


@pytest.fixture
def batch(call):
    """Run sct7t_batch from this process, on one worker unless told otherwise: (exit code, stdout, stderr)."""
    from sctseg7t.cli.batch import main

    def run(*argv):
        argv = [str(arg) for arg in argv]
        argv += ["-device", "cpu"] + ([] if "-workers" in argv else ["-workers", "1"])
        return call(main, argv)

    return run


@pytest.fixture(scope="module")
def done(small, tmp_path_factory):
    """A data set of three with the outputs of two workers; read only."""
    folder = tmp_path_factory.mktemp("done")
    bids = make_bids(folder / "bids", small, ["01", "02", "03"])
    (bids / "participants.tsv").write_text("participant_id\tage\tscan\nsub-01\t31\tA\nsub-02\tn/a\tB\n")
    process = start("-i", bids, "-o", folder / "out", "-workers", "2")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return bids, folder / "out", out, err


@pytest.fixture
def again(done, tmp_path):
    """The same with their times, to be worked on: data set and outputs."""
    for part in ("bids", "out"):
        shutil.copytree(done[0].parent / part, tmp_path / part)
    return tmp_path / "bids", tmp_path / "out"


def test_derivatives(done):
    bids, out, _, _ = done
    names = sorted(path.name for path in (out / "sub-01" / "anat").iterdir())
    tissues = ("GM", "SC", "WM")
    assert names == sorted(
        ["sub-01_T2starw_csa.csv", "sub-01_T2starw_deepseg.json"]
        + [f"sub-01_T2starw_label-{tissue}_mask.{ending}" for tissue in tissues for ending in ("json", "nii.gz")]
    )
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    made_by = description["GeneratedBy"][0]
    assert made_by["Name"] == "sctseg7t" and all(len(model["sha256"]) == 64 for model in made_by["Models"])
    assert (out / description["DatasetLinks"]["raw"]).resolve() == bids
    beside = json.loads((out / "sub-01" / "anat" / "sub-01_T2starw_label-SC_mask.json").read_text())
    assert beside["RawSources"] == ["bids:raw:sub-01/anat/sub-01_T2starw.nii.gz"]


def test_masks_are_those_of_single_runs(done, deepseg, tmp_path):
    bids, out, _, _ = done
    deepseg("-i", scan_of(bids, "02"), "-ofolder", tmp_path)
    for tissue, suffix in (("SC", "seg"), ("GM", "gmseg"), ("WM", "wmseg")):
        single = (tmp_path / f"sub-02_T2starw_{suffix}.nii.gz").read_bytes()
        assert (out / "sub-02" / "anat" / f"sub-02_T2starw_label-{tissue}_mask.nii.gz").read_bytes() == single


def test_progress_and_log(done):
    _, out, said, err = done
    assert [line for line in err.splitlines() if line.startswith("[3/3]")] and "\r" not in err
    assert "3 scans: 3 done, 0 up to date, 0 failed" in said and "cohort_scans.csv" in said
    log = (out / "logs" / "sub-01_T2starw.log").read_text()
    assert "sub-01/anat/sub-01_T2starw.nii.gz" in log and "network" in log and "ok after" in log


def test_tables(done):
    _, out, _, err = done
    slices, scans = rows(out / "cohort_slices.csv"), rows(out / "cohort_scans.csv")
    assert [(r["participant_id"], r["slice"], r["tissue"]) for r in slices] == [
        (subject, str(k), tissue)
        for subject in ("sub-01", "sub-02", "sub-03")
        for k in range(3)
        for tissue in ("SC", "GM", "WM")
    ]
    own = rows(out / "sub-02" / "anat" / "sub-02_T2starw_csa.csv")
    assert [r["area_mm2"] for r in slices if r["participant_id"] == "sub-02"] == [r["area_mm2"] for r in own]
    assert [(r["status"], r["n_slices"], r["age"]) for r in scans] == [
        ("ok", "3", "31"),
        ("ok", "3", ""),
        ("ok", "3", ""),
    ]
    # A name that the tables use themselves.
    assert [r["participant_scan"] for r in scans] == ["A", "B", ""] and scans[0]["scan"] == "sub-01_T2starw"
    assert "sub-03" in err and "participant_scan" in err
    areas = [float(r["area_mm2"]) for r in own if r["tissue"] == "SC"]
    assert float(scans[1]["sc_area_mm2_mean"]) == pytest.approx(np.mean(areas), abs=1e-3)
    assert float(scans[1]["sc_area_mm2_max"]) == pytest.approx(max(areas), abs=1e-3)
    described = {(r["table"], r["column"]) for r in rows(out / "cohort_dictionary.csv")}
    for name in ("cohort_slices.csv", "cohort_scans.csv"):
        assert described >= {(name, column) for column in rows(out / name)[0]}


def test_a_second_run_does_nothing_and_a_third_only_what_changed(again, batch):
    bids, out = again
    times = {path: path.stat().st_mtime_ns for path in out.rglob("sub-*") if path.is_file()}
    code, said, _ = batch("-i", bids, "-o", out)
    assert code == 0 and "0 done, 3 up to date, 0 failed" in said
    # What is only touched is read, found the same, and remembered.
    os.utime(scan_of(bids, "01"))
    code, said, _ = batch("-i", bids, "-o", out)
    assert code == 0 and "3 up to date" in said
    changed = {path for path, before in times.items() if path.stat().st_mtime_ns != before}
    assert {path.name for path in changed} == {"sub-01_T2starw_deepseg.json"}
    image = nib.load(scan_of(bids, "02"))
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj) * 2, image.affine), scan_of(bids, "02"))
    code, said, _ = batch("-i", bids, "-o", out, "-dry-run")
    assert code == 0 and "1 of 3 scans to run" in said
    code, said, _ = batch("-i", bids, "-o", out)
    assert code == 0 and "1 done, 2 up to date" in said
    code, said, _ = batch("-i", bids, "-o", out, "-thr", "0.3", "-exclude", "sub-03")
    assert code == 0 and "2 done, 0 up to date" in said
    assert {r["participant_id"] for r in rows(out / "cohort_scans.csv")} == {"sub-01", "sub-02"}


def test_dry_run_writes_nothing(bids, batch, tmp_path):
    code, said, _ = batch("-i", bids, "-o", tmp_path / "out", "-dry-run", "-exclude", "*02*")
    assert code == 0 and "2 of 2 scans to run" in said and "sub-01_T2starw_label-SC_mask.nii.gz" in said
    assert not (tmp_path / "out").exists()


def test_failures_are_rows_and_cost_nothing_else(bids, batch, tmp_path):
    out = tmp_path / "out"
    whole = scan_of(bids, "01").read_bytes()
    scan_of(bids, "01").write_bytes(whole[: len(whole) // 2])
    image = nib.load(scan_of(bids, "02"))
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.int16), image.affine), scan_of(bids, "02"))
    noise = np.random.default_rng(0).uniform(1, 100, (60, 60, 3)).astype(np.float32)
    (bids / "sub-04" / "anat").mkdir(parents=True)
    nib.save(nib.Nifti1Image(noise, np.diag([0.5, 0.5, 3, 1])), scan_of(bids, "04"))
    code, said, err = batch("-i", bids, "-o", out)
    assert code == 1 and "1 done, 0 up to date, 2 failed, 1 with nothing found" in said
    for word in ("truncated", "zero", "no cord"):
        assert word in err
    scans = rows(out / "cohort_scans.csv")
    assert [(r["participant_id"].removeprefix("sub-"), r["status"], r["error_kind"]) for r in scans] == [
        ("01", "failed", "input"),
        ("02", "failed", "input"),
        ("03", "ok", ""),
        ("04", "nothing_found", ""),
    ]
    assert [r.status for r in find_records(out)] == ["failed", "failed", "ok", "nothing_found"]
    masks = list(out.rglob("sub-04*mask.nii.gz"))
    assert len(masks) == 3 and not any(np.asanyarray(nib.load(path).dataobj).any() for path in masks)
    assert not list(out.rglob(".sct7t-sub*"))
    # Mended, it is run; the others are tried again.
    scan_of(bids, "01").write_bytes(whole)
    code, said, _ = batch("-i", bids, "-o", out)
    assert code == 1 and "1 done, 1 up to date, 1 failed, 1 with nothing found" in said


def test_a_scan_that_fails_later_takes_its_old_masks_along(again, batch):
    bids, out = again
    scan_of(bids, "01").write_bytes(b"")
    assert batch("-i", bids, "-o", out)[0] == 1
    left = sorted(path.name for path in (out / "sub-01" / "anat").iterdir())
    assert left == ["sub-01_T2starw_deepseg.json"]
    assert {r["participant_id"] for r in rows(out / "cohort_slices.csv")} == {"sub-02", "sub-03"}


def test_a_mask_changed_by_hand_is_never_lost(again, batch):
    bids, out = again
    mask = out / "sub-01" / "anat" / "sub-01_T2starw_label-GM_mask.nii.gz"
    before = mask.read_bytes()
    mask.write_bytes(b"hours of work")
    # It cannot be measured: that is told, and it stays.
    code, said, err = batch("-i", bids, "-o", out)
    assert code == 1 and "0 done, 2 up to date, 1 failed" in said and mask.name in err
    assert mask.read_bytes() == b"hours of work" and batch("-o", out, "-tables-only")[0] == 0
    code, said, err = batch("-i", bids, "-o", out, "-overwrite")
    assert code == 0 and "1 done, 2 up to date" in said and "replaced" in err
    assert mask.read_bytes() == before
    (kept,) = (out / "replaced").rglob("*.nii.gz")
    assert kept.read_bytes() == b"hours of work"


def test_a_corrected_mask_is_measured_by_the_tables_alone(again, batch):
    bids, out = again
    mask = out / "sub-02" / "anat" / "sub-02_T2starw_label-SC_mask.nii.gz"
    image = nib.load(mask)
    cord = np.asanyarray(image.dataobj).copy()
    cord[..., 0] = 0
    nib.save(nib.Nifti1Image(cord, image.affine, image.header), mask)
    drawn = mask.read_bytes()
    code, said, _ = batch("-o", out, "-tables-only")
    assert code == 0 and "sub-02_T2starw: measured again (SC corrected)" in said and mask.read_bytes() == drawn
    pixel = np.prod(image.header.get_zooms()[:2])
    for row in rows(out / "cohort_slices.csv"):
        if (row["participant_id"], row["tissue"]) == ("sub-02", "SC"):
            area = cord[..., int(row["slice"])].sum() * pixel
            assert (row["area_mm2"], row["corrected"]) == (f"{area:.4f}" if area else "", "SC")
    assert [row["corrected"] for row in rows(out / "cohort_scans.csv")] == ["", "SC", ""]
    code, said, _ = batch("-i", bids, "-o", out)
    assert code == 0 and "0 done, 3 up to date" in said
    # A broken one costs nothing but its scan's numbers.
    mask.write_bytes(drawn[:50])
    files = sorted(mask.parent.iterdir())
    code, _, err = batch("-o", out, "-tables-only")
    assert code == 1 and mask.name in err and sorted(mask.parent.iterdir()) == files
    assert [row["status"] for row in rows(out / "cohort_scans.csv")] == ["ok", "failed", "ok"]
    mask.write_bytes(drawn)
    code, said, _ = batch("-i", bids, "-o", out)
    assert code == 0 and "1 done, 2 up to date" in said and mask.read_bytes() == drawn


def test_plain_folder_and_sct_names(bids, batch, small, tmp_path):
    plain = tmp_path / "plain" / "site A"
    plain.mkdir(parents=True)
    shutil.copy(small, plain / "é (1).nii.gz")
    code, _, err = batch("-i", plain.parent, "-o", tmp_path / "out", "-c", "sc")
    assert code == 0, err
    made = sorted(path.name for path in (tmp_path / "out" / "site A").iterdir())
    assert made == ["é (1)_csa.csv", "é (1)_deepseg.json", "é (1)_seg.nii.gz"]
    assert rows(tmp_path / "out" / "cohort_scans.csv")[0]["scan"] == "site A/é (1)"
    code, said, _ = batch("-i", bids, "-o", tmp_path / "sct", "-names", "sct", "-dry-run", "-include", "02")
    assert code == 0 and "sub-02_T2starw_gmseg.nii.gz" in said and "1 of 1" in said


def test_two_scans_with_one_output_are_both_refused(batch, small, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(small, folder / "a.nii.gz")
    nib.save(nib.load(small), folder / "a.nii")
    shutil.copy(small, folder / "b.nii.gz")
    code, said, err = batch("-i", folder, "-o", tmp_path / "out", "-c", "sc")
    assert code == 1 and "1 done, 0 up to date, 2 failed" in said and "as would" in err
    assert sorted(path.name for path in (tmp_path / "out").glob("*seg.nii*")) == ["b_seg.nii.gz"]


def test_outputs_within_the_data_set_are_no_scans(bids, batch):
    out = bids / "sub-derivatives"
    assert batch("-i", bids, "-o", out, "-include", "01", "-v", "0") == (0, "", "")
    code, said, _ = batch("-i", bids, "-o", out, "-dry-run")
    assert code == 0 and "2 of 3 scans to run" in said


def test_labels_by_template(bids, batch, tmp_path):
    image = nib.load(scan_of(bids, "01"))
    levels = np.zeros(image.shape, np.uint8)
    levels[..., :2], levels[..., 2:] = 4, 3
    place = bids / "derivatives" / "labels" / "sub-01" / "anat"
    place.mkdir(parents=True)
    nib.save(nib.Nifti1Image(levels, image.affine), place / "sub-01_T2starw_levels.nii.gz")
    line = ("-i", bids, "-o", tmp_path / "out", "-exclude", "03")
    template = "derivatives/labels/{folder}/{stem}_levels.nii.gz"
    assert batch(*line, "-levels", template)[0] == 0
    slices = rows(tmp_path / "out" / "cohort_slices.csv")
    assert [r["level"] for r in slices if r["tissue"] == "SC"] == ["4", "4", "3", "", "", ""]
    assert "there is no" in rows(tmp_path / "out" / "cohort_scans.csv")[1]["warnings"]
    assert {r["level"] for r in rows(tmp_path / "out" / "cohort_levels.csv")} == {"3", "4", "all"}
    # The labels are part of what a scan depends on.
    nib.save(nib.Nifti1Image(levels + 1, image.affine), place / "sub-01_T2starw_levels.nii.gz")
    code, said, _ = batch(*line, "-levels", template)
    assert code == 0 and "1 done, 1 up to date" in said
    code, _, err = batch(*line, "-levels", "{nothing}.nii.gz")
    assert code == 2 and "{stem}" in err


def test_tables_only(done, batch, tmp_path):
    shutil.copytree(done[1], tmp_path / "out")
    before = rows(tmp_path / "out" / "cohort_slices.csv")
    for path in (tmp_path / "out").glob("cohort_*"):
        path.unlink()
    assert batch("-o", tmp_path / "out", "-tables-only", "-participants", done[0] / "participants.tsv")[0] == 0
    assert rows(tmp_path / "out" / "cohort_slices.csv") == before
    assert batch("-o", tmp_path / "none", "-tables-only")[0] == 2


def test_two_batches_in_one_folder(bids, batch, tmp_path):
    from sctseg7t.cohort.lock import alone_in

    out = tmp_path / "out"
    out.mkdir()
    with alone_in(out):
        code, _, err = batch("-i", bids, "-o", out)
    assert code == 2 and f"process {os.getpid()}" in err and len(err.splitlines()) == 1
    assert not list(out.rglob("*.nii.gz"))
    with alone_in(out):
        pass


@pytest.mark.parametrize(
    "argv, word",
    [
        (["-i", "nowhere", "-o", "out"], "nowhere"),
        (["-i", "bids", "-o", "bids"], "derivatives"),
        (["-i", "bids", "-o", "out", "-pattern", "T1w"], "T2starw (3)"),
        (["-i", "bids", "-o", "out", "-include", "sub-99"], "sub-99: no scan"),
        (["-i", "bids", "-o", "out", "-engine", "dask"], "-scheduler"),
        (["-i", "bids", "-o", "out", "-group", "sex"], "-figures"),
        (["-i", "bids", "-o", "out", "-figures", "-group", "sex"], "sex"),
        (["-i", "bids", "-o", "out", "-c", "nothing"], "nothing"),
        (["-i", "bids", "-o", "out", "-device", "gpu"], "gpu"),
        (["-i", "bids", "-o", "out", "-participants", "none.tsv"], "none.tsv"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_done(bids, capsys, tmp_path, monkeypatch, argv, word):
    from sctseg7t.cli.batch import main

    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert word in err.splitlines()[-1] and "Traceback" not in err
    assert not (tmp_path / "out").exists()


@posix
def test_a_scan_that_hangs_and_one_that_kills_its_worker(bids, tmp_path):
    out = tmp_path / "out"
    fifo(bids, "00hang")
    fifo(bids, "00kill")
    process = start("-i", bids, "-o", out, "-workers", "2", "-timeout", "6")
    os.kill(wait_for(lambda: worker_of(out, "00kill")), signal.SIGKILL)
    said, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "3 done, 0 up to date, 2 failed" in said
    hang, kill = record(out, "00hang"), record(out, "00kill")
    assert (hang["status"], hang["error_kind"]) == ("failed", "timeout") and "6 s" in hang["error"]
    assert (kill["status"], kill["error_kind"]) == ("failed", "killed") and "SIGKILL" in kill["error"]
    # Where it hung.
    assert "read_header" in (out / "logs" / "sub-00hang_T2starw.log").read_text()
    assert {r["participant_id"].removeprefix("sub-"): r["error_kind"] for r in rows(out / "cohort_scans.csv")} == {
        "00hang": "timeout",
        "00kill": "killed",
        "01": "",
        "02": "",
        "03": "",
    }


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_and_taken_up_again(bids, tmp_path, number, batch):
    out = tmp_path / "out"
    fifo(bids, "02stuck")
    process = start("-i", bids, "-o", out, "-workers", "1")
    worker = wait_for(lambda: worker_of(out, "02stuck"))
    if number == signal.SIGKILL:
        process.kill()
        # Workers hold its pipes: this returns because none outlives it.
        process.communicate(timeout=60)
    else:
        # A terminal sends Ctrl-C to the whole group.
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        wait_for(lambda: "once more" in process.stderr.readline())
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 130 and "Traceback" not in err and "interrupted" in err
        assert record(out, "01")["status"] == "ok" and record(out, "02")["status"] == "ok"
        assert not list(out.rglob(".sct7t-sub*")) and not (out / "sub-03").exists()
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    code, said, _ = batch("-i", bids, "-o", out, "-exclude", "02stuck")
    assert code == 0 and "1 done, 2 up to date" in said


def test_prefetched_scans_are_the_scans(done, batch, tmp_path):
    """One worker reads ahead: the same bytes as two that do not."""
    bids, out, _, _ = done
    assert batch("-i", bids, "-o", tmp_path / "out", "-workers", "1")[0] == 0
    assert masks(tmp_path / "out") == masks(out)
    assert Path(tmp_path / "out" / "cohort_slices.csv").read_bytes() == (out / "cohort_slices.csv").read_bytes()

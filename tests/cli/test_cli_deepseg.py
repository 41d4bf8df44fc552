"""sct7t_deepseg as a user meets it: what it writes, what it says, how it ends."""

import csv
import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sctseg7t.version import __version__

OUTPUTS = ("t2s_csa.csv", "t2s_deepseg.json", "t2s_gmseg.nii.gz", "t2s_seg.nii.gz", "t2s_wmseg.nii.gz")


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def values(path):
    return np.asanyarray(nib.load(path).dataobj)


def rows(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def default_entry(manifest):
    """The model that gm_sc uses unless told otherwise."""
    return next(m for m in manifest["models"] if m["id"] == manifest["tasks"]["gm_sc"]["default"] and m["default"])


def subprocess_env(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def command(*argv, **options):
    """The command in a process of its own, stdout and stderr in pipes."""
    line = [sys.executable, "-m", "sctseg7t.cli.deepseg", *map(str, argv), "-device", "cpu", "-threads", "1"]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=300, env=subprocess_env(), **options, check=False
    )


# ---------------------------------------------------------------- a normal run


def test_default_outputs_lie_beside_the_input(deepseg, example, tmp_path, root, dice):
    scan = tmp_path / "t2s.nii.gz"
    shutil.copy(example, scan)
    code, out, _ = deepseg("-i", scan)
    assert code == 0
    assert names(tmp_path) == sorted(("t2s.nii.gz", *OUTPUTS)) and scan.read_bytes() == example.read_bytes()
    assert all(str(tmp_path / name) in out for name in OUTPUTS)
    view = next(line for line in out.splitlines() if "fsleyes" in line)
    assert all(part in view for part in ("t2s.nii.gz", "t2s_seg.nii.gz", "t2s_gmseg.nii.gz"))
    sc, gm, wm = (values(tmp_path / f"t2s_{suffix}.nii.gz") for suffix in ("seg", "gmseg", "wmseg"))
    assert sc.dtype == np.uint8 and set(np.unique(sc)) == {0, 1}
    assert gm.any() and not (gm & ~sc).any()
    np.testing.assert_array_equal(wm, sc & ~gm)
    for suffix, mask, least in (("seg", sc, 0.9), ("gmseg", gm, 0.7)):
        assert dice(mask, values(example.parent / f"t2s_{suffix}-truth.nii.gz")) >= least, suffix

    table = rows(tmp_path / "t2s_csa.csv")
    keys = [(str(k), tissue) for k in range(sc.shape[2]) for tissue in ("SC", "GM", "WM")]
    assert [(r["slice"], r["tissue"]) for r in table] == keys
    pixel_mm2 = np.prod(nib.load(scan).header.get_zooms()[:2])
    stated = [float(r["area_mm2"]) for r in table if r["tissue"] == "SC"]
    np.testing.assert_allclose(stated, sc.sum((0, 1)) * pixel_mm2, rtol=1e-4)

    record = json.loads((tmp_path / "t2s_deepseg.json").read_text())
    model = default_entry(json.loads((root / "models.json").read_text()))
    assert record["tool"] == {"name": "sctseg7t", "version": __version__}
    assert (record["model"]["id"], record["model"]["version"]) == (model["id"], model["version"])
    assert record["model"]["sha256"] == model["files"][0]["sha256"]
    assert record["locator"]["id"] == model["centring"]["model"]
    digest = hashlib.sha256(scan.read_bytes()).hexdigest()
    assert record["input"] == {"file": "t2s.nii.gz", "path": "t2s.nii.gz", "sha256": digest}
    assert record["status"] == "ok" and record["name"] == "t2s" and record["usable"] is True
    for name in set(OUTPUTS) - {"t2s_deepseg.json"}:
        written = (tmp_path / name).read_bytes()
        assert record["files"][name] == {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
    assert record["options"]["task"] == "gm_sc" and record["device"] == "cpu" and record["threads"] == 1
    assert record["seconds"]["network"] > 0 and {"open", "load", "locate"} <= set(record["seconds"])


def test_verbosity(deepseg, scan):
    assert deepseg("-i", scan, "-v", "0") == (0, "", "")
    _, _, err = deepseg("-i", scan, "-v", "2")
    assert "network" in err and "cpu" in err and re.search(r"^sct7t_deepseg: \d+\.\d s$", err, flags=re.M)


@pytest.mark.parametrize("task, suffix", [("gm", "gmseg"), ("sc", "seg")])
def test_a_task_of_one_tissue_writes_only_that(deepseg, scan, tmp_path, task, suffix):
    assert deepseg("-i", scan, "-c", task)[0] == 0
    assert names(scan.parent) == sorted(("t2s.nii.gz", f"t2s_{suffix}.nii.gz", "t2s_csa.csv", "t2s_deepseg.json"))
    assert {r["tissue"] for r in rows(scan.parent / "t2s_csa.csv")} == {task.upper()}
    assert deepseg("-i", scan, "-ofolder", tmp_path / "both")[0] == 0
    name = f"t2s_{suffix}.nii.gz"
    np.testing.assert_array_equal(values(scan.parent / name), values(tmp_path / "both" / name))


@pytest.mark.parametrize(
    "argv, expected",
    [
        (["-o", "res.nii"], ("res_csa.csv", "res_deepseg.json", "res_gmseg.nii", "res_seg.nii", "res_wmseg.nii")),
        (["-o", "new/res.v2", "-c", "gm"], ("res.v2.nii.gz", "res.v2_csa.csv", "res.v2_deepseg.json")),
    ],
)
def test_output_option_names_the_outputs(deepseg, scan, tmp_path, monkeypatch, argv, expected):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    assert deepseg("-i", scan, *argv)[0] == 0
    assert names(scan.parent) == ["t2s.nii.gz"]
    written = [path for path in (tmp_path / "cwd").rglob("*") if path.is_file()]
    assert sorted(path.name for path in written) == sorted(expected)
    assert {path.parent for path in written} == {tmp_path / "cwd" / Path(argv[1]).parent}


def test_soft_fractions(deepseg, scan, tmp_path):
    deepseg("-i", scan, "-thr", "0.5", "-ofolder", tmp_path / "hard")
    assert deepseg("-i", scan, "-soft", "-ofolder", tmp_path / "soft")[0] == 0
    soft = {s: values(tmp_path / "soft" / f"t2s_{s}.nii.gz") for s in ("seg", "gmseg", "wmseg")}
    for fraction in soft.values():
        assert fraction.dtype == np.float32
        assert fraction.min() >= 0 and fraction.max() <= 1
        assert ((fraction > 0.05) & (fraction < 0.95)).any()
    assert (soft["gmseg"] <= soft["seg"]).all()
    np.testing.assert_array_equal(soft["wmseg"], soft["seg"] - soft["gmseg"])
    for suffix in ("seg", "gmseg"):
        hard = values(tmp_path / "hard" / f"t2s_{suffix}.nii.gz")
        assert soft[suffix].sum() == pytest.approx(hard.sum(), rel=0.1)
        np.testing.assert_array_equal(soft[suffix] >= 0.5, hard == 1)
    stated = [float(r["area_mm2"]) for r in rows(tmp_path / "soft" / "t2s_csa.csv") if r["tissue"] == "SC"]
    pixel_mm2 = np.prod(nib.load(scan).header.get_zooms()[:2])
    np.testing.assert_allclose(stated, soft["seg"].sum((0, 1)) * pixel_mm2, rtol=1e-4)


def test_remove_small_larger_than_the_tissue_removes_it(deepseg, scan):
    code, _, err = deepseg("-i", scan, "-remove-small", "1000mm3", "-no-csa")
    assert code == 1 and "what it found was removed" in err and "no cord found" not in err
    assert not values(scan.parent / "t2s_seg.nii.gz").any()


def test_csa_format_sct_is_a_table_a_mask_beside_the_tidy_one(deepseg, scan):
    (scan.parent / "levels.tsv").write_text("slice\tlevel\n0\t4\n1\t4\n2\t3\n")
    assert deepseg("-i", scan, "-csa-format", "sct", "-levels", scan.parent / "levels.tsv")[0] == 0
    tidy = rows(scan.parent / "t2s_csa.csv")
    for tissue, stem in {"SC": "t2s_seg", "GM": "t2s_gmseg", "WM": "t2s_wmseg"}.items():
        own = [r for r in tidy if r["tissue"] == tissue]
        table = rows(scan.parent / f"{stem}_csa_sct.csv")
        assert {r["Filename"] for r in table} == {f"{stem}.nii.gz"}
        found = [float(r["MEAN(area)"]) for r in table]
        assert found == pytest.approx([float(r["area_corrected_mm2"]) for r in own], abs=1e-4)
        levels = rows(scan.parent / f"{stem}_csa_sct_perlevel.csv")
        assert [(r["Slice (I->S)"], r["VertLevel"]) for r in levels] == [("0:1", "4"), ("2", "3")]
        assert float(levels[0]["MEAN(area)"]) == pytest.approx(sum(found[:2]) / 2)
    # Without, what an earlier run left beside new masks goes.
    assert deepseg("-i", scan)[0] == 0
    assert not list(scan.parent.glob("*_sct*.csv"))


def test_levels_give_a_table_per_level(deepseg, scan, tmp_path):
    image = nib.load(scan)
    levels = np.zeros(image.shape, np.uint8)
    levels[..., :2], levels[..., 2:] = 4, 3
    nib.save(nib.Nifti1Image(levels, image.affine), tmp_path / "levels.nii.gz")
    assert deepseg("-i", scan, "-levels", tmp_path / "levels.nii.gz")[0] == 0
    table = rows(scan.parent / "t2s_csa_perlevel.csv")
    cord = {r["level"]: r for r in table if r["tissue"] == "SC"}
    assert {level: r["n_slices"] for level, r in cord.items()} == {"3": "1", "4": "2", "all": "3"}
    per_slice = [float(r["area_mm2"]) for r in rows(scan.parent / "t2s_csa.csv") if r["tissue"] == "SC"]
    assert float(cord["4"]["area_mm2_mean"]) == pytest.approx(np.mean(per_slice[:2]), abs=1e-3)


@pytest.mark.parametrize("points", [False, True])
def test_centerline_replaces_the_locator(deepseg, scan, tmp_path, dice, monkeypatch, points):
    deepseg("-i", scan, "-c", "sc", "-ofolder", tmp_path / "located")
    image, found = nib.load(scan), values(tmp_path / "located" / "t2s_seg.nii.gz")
    line = np.zeros_like(found)
    for k in (0, image.shape[2] - 1):
        line[(*np.argwhere(found[..., k]).mean(0).round().astype(int), k)] = k + 1
    nib.save(nib.Nifti1Image(line if points else found, image.affine), tmp_path / "line.nii.gz")
    monkeypatch.setattr("sctseg7t.cord.segmenter.locate", lambda *args: pytest.fail("the locator ran"))
    assert deepseg("-i", scan, "-c", "sc", "-centerline", tmp_path / "line.nii.gz")[0] == 0
    assert dice(values(scan.parent / "t2s_seg.nii.gz"), found) > 0.95
    assert json.loads((scan.parent / "t2s_deepseg.json").read_text())["locator"] == {"source": "file"}


@pytest.mark.parametrize(
    "option, value, said",
    [
        ("-centerline", None, "does not exist"),
        ("-centerline", 0, "labels.nii.gz"),
        ("-levels", None, "does not exist"),
        ("-levels", 0, "labels.nii.gz"),
        ("-levels", 119, "not vertebral levels"),
    ],
)
def test_bad_label_files(deepseg, scan, tmp_path, option, value, said):
    image = nib.load(scan)
    if value is not None:
        nib.save(nib.Nifti1Image(np.full(image.shape, value, np.int16), image.affine), tmp_path / "labels.nii.gz")
    code, _, err = deepseg("-i", scan, option, tmp_path / "labels.nii.gz")
    assert code == (2 if value is None else 1) and said in err and err.count("\n") == 1
    assert names(scan.parent) == ["t2s.nii.gz"]


def test_report_and_qc_page_of_a_run_have_its_failures(deepseg, scan, tmp_path):
    missing = tmp_path / "none.nii.gz"
    code, out, _ = deepseg("-i", scan, missing, "-report", tmp_path / "run.json", "-qc", tmp_path / "qc", "-thr", "0.4")
    assert code == 1 and str(tmp_path / "qc" / "index.html") in out
    report = json.loads((tmp_path / "run.json").read_text())
    good, bad = report["runs"]
    assert good["ok"] and good["input"] == str(scan) and all(Path(path).is_file() for path in good["outputs"])
    assert not bad["ok"] and "none.nii.gz" in bad["error"] and report["options"]["threshold"] == 0.4
    page = (tmp_path / "qc" / "index.html").read_text(encoding="utf-8")
    assert "t2s" in page and "does not exist" in page


def test_qc_folder_that_cannot_be_made_is_said_before_anything_is_done(deepseg, scan, tmp_path):
    (tmp_path / "file").write_text("mine")
    code, _, err = deepseg("-i", scan, "-qc", tmp_path / "file" / "qc")
    assert code == 2 and f"-qc {tmp_path / 'file' / 'qc'}: cannot be made or written" in err and err.count("\n") == 1
    assert names(scan.parent) == ["t2s.nii.gz"]


@pytest.mark.parametrize("target", ["in/t2s.nii.gz", "in/t2s_seg.nii.gz", "nowhere/run.json", "in"])
def test_report_with_no_place_of_its_own(deepseg, scan, tmp_path, target):
    before = scan.read_bytes()
    code, _, err = deepseg("-i", scan, "-report", tmp_path / target)
    assert code == 2 and target in err and len(err.splitlines()) == 1
    assert names(scan.parent) == ["t2s.nii.gz"] and scan.read_bytes() == before


def test_list_tasks(deepseg):
    code, out, _ = deepseg("-list-tasks")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines() if not line.startswith(" ")} >= {"gm_sc", "gm", "sc"}
    assert "cord_gm_sc@" in out and "locate" not in out.split()
    assert max(map(len, out.splitlines())) <= 80


def test_voxels_that_are_no_numbers(deepseg, scan, tmp_path):
    """They count as 0; a warning and a flag say where they meet the cord."""
    deepseg("-i", scan, "-ofolder", tmp_path / "whole")
    cord = np.argwhere(values(tmp_path / "whole" / "t2s_seg.nii.gz")[..., 2]).mean(0).astype(int)
    image = nib.load(scan)
    data = image.get_fdata(dtype=np.float32)
    data[:3] = np.nan
    data[cord[0], cord[1], 2] = np.inf
    nib.save(nib.Nifti1Image(data, image.affine), scan)
    code, _, err = deepseg("-i", scan)
    assert code == 0 and "NaN or infinite voxels taken as 0" in err
    with open(scan.with_name("t2s_csa.csv")) as stream:
        flagged = {int(row["slice"]) for row in csv.DictReader(stream) if "voxels_missing" in row["flags"]}
    assert flagged == {2}
    code, _, err = deepseg("-i", scan, "-nan", "refuse", "-ofolder", tmp_path / "refused")
    assert code == 1 and "replace them" in err and names(tmp_path / "refused") == []


def test_other_formats_give_nifti_masks(deepseg, scan, tmp_path):
    deepseg("-i", scan, "-ofolder", tmp_path / "nifti")
    image = nib.load(scan)
    nib.save(nib.MGHImage(image.get_fdata(dtype=np.float32), image.affine), scan.with_name("t2s.mgz"))
    assert deepseg("-i", scan.with_name("t2s.mgz"), "-ofolder", tmp_path / "mgz")[0] == 0
    assert names(tmp_path / "mgz") == names(tmp_path / "nifti")
    for name in ("t2s_seg.nii.gz", "t2s_gmseg.nii.gz"):
        assert np.array_equal(values(tmp_path / "mgz" / name), values(tmp_path / "nifti" / name))


def test_a_folder_of_nifti_files_is_for_another_command(deepseg, scan):
    code, _, err = deepseg("-i", scan.parent)
    assert code == 1 and "sct7t_batch -i" in err and names(scan.parent) == ["t2s.nii.gz"]


def test_awkward_names(deepseg, scan, tmp_path, monkeypatch):
    folder = tmp_path / "été ü 脊髓"
    folder.mkdir()
    path = folder / "scan (1) ñ.nii.gz"
    shutil.copy(scan, path)
    monkeypatch.chdir(folder)
    code, out, _ = deepseg("-i", path.name, "-c", "sc")
    assert code == 0
    assert names(folder) == sorted(
        path.name.replace(".nii.gz", s) for s in (".nii.gz", "_seg.nii.gz", "_csa.csv", "_deepseg.json")
    )
    assert "fsleyes 'scan (1) ñ.nii.gz'" in out
    assert rows(folder / "scan (1) ñ_csa.csv")[0]["filename"] == path.name


def test_input_through_a_link_is_written_beside_the_link(deepseg, scan, tmp_path):
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "sub-01.nii.gz"
    link.symlink_to(scan)
    assert deepseg("-i", link, "-c", "sc", "-no-csa")[0] == 0
    assert names(tmp_path / "links") == ["sub-01.nii.gz", "sub-01_deepseg.json", "sub-01_seg.nii.gz"]
    assert link.is_symlink() and names(scan.parent) == ["t2s.nii.gz"]


# ---------------------------------------------------------------- a process of its own


def test_pipe_sees_no_progress_bar_and_clean_streams(scan, tmp_path):
    other = tmp_path / "in" / "b.nii.gz"
    shutil.copy(scan, other)
    done = command("-i", scan, other)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\r" not in done.stdout and "b_seg.nii.gz" in done.stdout


@pytest.mark.parametrize("argv", [[], ["-soft", "-no-csa"]])
def test_main_job_imports_nothing_heavy(scan, argv):
    line = ["-i", str(scan), "-v", "0", "-device", "cpu", "-threads", "1", *argv]
    heavy = ["torch", "nilearn", "skimage", "scipy", "matplotlib", "pandas", "jinja2", "jsonschema", "onnx"]
    heavy += ["pydicom", "SimpleITK", "requests", "pooch", "tqdm", "filelock", "platformdirs", "urllib.request"]
    code = (
        f"import sys; from sctseg7t.cli.deepseg import main; code = main({line!r}); "
        f"print(code, sorted(set({heavy!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=subprocess_env(), check=False
    )
    assert (done.stdout, done.stderr) == ("0 []\n", "")


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise on Windows")
def test_interrupted_run_leaves_only_complete_files(scan, tmp_path):
    """Interrupted in the second scan: the first is complete, the rest is not there."""
    many = [tmp_path / "in" / f"s{k}.nii.gz" for k in range(40)]
    for path in many:
        shutil.copy(scan, path)
    line = [sys.executable, "-m", "sctseg7t.cli.deepseg", "-i", *map(str, many), "-device", "cpu", "-threads", "1"]
    process = subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=subprocess_env(),
        # A shell's background jobs ignore the signal, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "in" / "s0_deepseg.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err and "interrupted" in err
    assert not [name for name in names(tmp_path / "in") if name.startswith(".")]
    done = [path for path in many if (path.parent / path.name.replace(".nii.gz", "_deepseg.json")).exists()]
    assert 0 < len(done) < len(many)
    for path in done:
        assert values(str(path).replace(".nii.gz", "_seg.nii.gz")).any()


# ---------------------------------------------------------------- inputs that cannot be used


def _image(data, affine=None):
    return nib.Nifti1Image(data, np.diag([0.5, 0.5, 3, 1]) if affine is None else affine)


def _noise(shape=(40, 40, 3)):
    return np.random.default_rng(0).uniform(1, 100, shape).astype(np.float32)


def _truncated(path):
    raw = gzip.compress(_image(_noise()).to_bytes())
    path.write_bytes(raw[: len(raw) // 2])


SAGITTAL = np.array([[0, 0, 3, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, 1.0]])
# One of each way to fail; all kinds of bad files are among the tests of the image room.
BAD = {
    "missing": (lambda path: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "DICOM"),
    "text": (lambda path: path.write_bytes(gzip.compress(b"not an image\n" * 100)), "not a NIfTI"),
    "truncated": (_truncated, "truncated"),
    "nan": (lambda path: nib.save(_image(np.full_like(_noise(), np.nan)), path), "NaN"),
    "sagittal": (lambda path: nib.save(_image(_noise(), SAGITTAL), path), "sagittal"),
}


def test_bad_inputs_are_one_line_each_and_cost_nothing_else(deepseg, scan, tmp_path):
    bad = {kind: scan.parent / f"{kind}.nii.gz" for kind in BAD}
    for kind, path in bad.items():
        BAD[kind][0](path)
    before = names(scan.parent)
    code, _, err = deepseg("-i", *bad.values(), scan, "-ofolder", tmp_path / "out", "-c", "sc")
    assert code == 1 and "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == len(BAD)
    for line, (kind, path) in zip(lines, bad.items()):
        # What to do follows a semicolon.
        assert str(path) in line and BAD[kind][1] in line and ";" in line, line
    assert names(tmp_path / "out") == ["t2s_csa.csv", "t2s_deepseg.json", "t2s_seg.nii.gz"]
    assert names(scan.parent) == before


@pytest.mark.parametrize(
    "fault, said",
    [
        (IndexError("index 3 is out of\nbounds"), "internal error (IndexError: index 3 is out of bounds)"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_a_fault_is_one_line_and_costs_only_its_input(deepseg, scan, tmp_path, monkeypatch, fault, said):
    from sctseg7t.cord.segmenter import CordSegmenter

    real = CordSegmenter.run

    def run(self, source, **options):
        if "bad" in str(source):
            raise fault
        return real(self, source, **options)

    monkeypatch.setattr(CordSegmenter, "run", run)
    bad = tmp_path / "in" / "bad.nii.gz"
    shutil.copy(scan, bad)
    code, _, err = deepseg("-i", bad, scan, "-no-csa")
    assert code == 1 and "Traceback" not in err
    assert err.splitlines()[0].startswith(f"error: {bad}: {said}")
    assert (scan.parent / "t2s_seg.nii.gz").exists()


# ---------------------------------------------------------------- names that collide


def test_two_inputs_with_one_output_name_are_both_refused(deepseg, scan, tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        shutil.copy(scan, tmp_path / folder / "x.nii.gz")
    first, second = tmp_path / "a" / "x.nii.gz", tmp_path / "b" / "x.nii.gz"
    code, _, err = deepseg("-i", first, second, scan, "-ofolder", tmp_path / "out", "-c", "sc", "-no-csa")
    assert code == 1
    assert str(first) in err and str(second) in err
    assert names(tmp_path / "out") == ["t2s_deepseg.json", "t2s_seg.nii.gz"]


def test_the_same_input_twice(deepseg, scan, small, monkeypatch):
    monkeypatch.chdir(scan.parent)
    shutil.copy(small, "other.nii.gz")
    code, _, err = deepseg("-i", "t2s.nii.gz", "../in/t2s.nii.gz", "other.nii.gz", "-c", "sc", "-no-csa")
    assert code == 1 and "t2s.nii.gz" in err
    assert [name for name in names(".") if name.endswith("_seg.nii.gz")] == ["other_seg.nii.gz"]


def test_an_input_is_never_overwritten(deepseg, scan):
    before = scan.read_bytes()
    code, _, err = deepseg("-i", scan, "-c", "sc", "-o", scan)
    assert code == 1 and str(scan) in err and "overwrite" in err and len(err.splitlines()) == 1
    assert names(scan.parent) == ["t2s.nii.gz"] and scan.read_bytes() == before


def test_an_input_that_another_would_overwrite(deepseg, scan):
    mask = scan.parent / "t2s_seg.nii.gz"
    shutil.copy(scan, mask)
    before = mask.read_bytes()
    code, _, err = deepseg("-i", scan, mask)
    assert code == 1 and f"error: {scan}" in err
    assert mask.read_bytes() == before
    assert not (scan.parent / "t2s_gmseg.nii.gz").exists()
    assert (scan.parent / "t2s_seg_seg.nii.gz").exists()


def test_a_label_file_is_never_overwritten(deepseg, scan):
    labels = scan.parent / "t2s_seg.nii.gz"
    shutil.copy(scan, labels)
    code, _, err = deepseg("-i", scan, "-centerline", labels)
    assert code == 1 and "overwrite" in err
    assert labels.read_bytes() == scan.read_bytes() and names(scan.parent) == ["t2s.nii.gz", "t2s_seg.nii.gz"]


# ---------------------------------------------------------------- places that cannot be written


def test_output_folder_under_a_file(deepseg, scan, tmp_path):
    (tmp_path / "file").write_text("mine")
    place = tmp_path / "file" / "sub"
    code, _, err = deepseg("-i", scan, "-ofolder", place)
    assert code == 1 and str(place) in err and "output folder" in err and len(err.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("failing, number", [("t2s_wmseg", "ENOSPC"), ("t2s_csa", "EROFS"), ("t2s_deepseg", "EACCES")])
def test_failed_write_leaves_the_earlier_run_as_it_was(deepseg, scan, tmp_path, monkeypatch, failing, number):
    """One file cannot be made: what was there before stays, also those that could be made."""
    deepseg("-i", scan, "-ofolder", tmp_path / "out")
    before = {name: (tmp_path / "out" / name).read_bytes() for name in OUTPUTS}
    real = os.replace

    def fail(source, target):
        if Path(target).name.startswith(failing):
            raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))
        real(source, target)

    monkeypatch.setattr(os, "replace", fail)
    code, _, err = deepseg("-i", scan, "-ofolder", tmp_path / "out", "-thr", "0.2")
    monkeypatch.undo()
    assert code == 1 and len(err.splitlines()) == 1
    assert str(tmp_path / "out") in err and ".sct7t-" not in err and "Traceback" not in err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.skipif(os.name == "nt", reason="needs a file size limit")
def test_a_file_cut_short_by_the_system_is_not_left_behind(scan, tmp_path):
    """A real write that stops in the middle, as on a full disk."""
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    done = command("-i", scan, "-soft", "-ofolder", tmp_path / "out", preexec_fn=limit)
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1 and str(tmp_path / "out") in done.stderr
    assert names(tmp_path / "out") == []


@pytest.mark.skipif(os.name == "nt", reason="file modes are otherwise on Windows")
def test_outputs_have_the_usual_permissions(deepseg, scan):
    before = os.umask(0o027)
    try:
        deepseg("-i", scan)
    finally:
        os.umask(before)
    assert {(scan.parent / name).stat().st_mode & 0o777 for name in OUTPUTS} == {0o640}


def test_report_that_cannot_be_written_costs_only_the_report(deepseg, scan, tmp_path, monkeypatch):
    real = os.replace

    def fail(source, target):
        if Path(target).name == "run.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    monkeypatch.setattr(os, "replace", fail)
    code, _, err = deepseg("-i", scan, "-no-csa", "-report", tmp_path / "run.json")
    assert code == 1 and "run.json" in err and len(err.splitlines()) == 1
    assert (scan.parent / "t2s_seg.nii.gz").exists() and names(tmp_path) == ["in"]


# ---------------------------------------------------------------- wrong usage


@pytest.mark.parametrize(
    "argv, word",
    [
        (["-c", "spleen"], "spleen"),
        (["-c", "locate"], "locate"),
        (["-m", "nosuchmodel"], "nosuchmodel"),
        (["-m", "cord_gm_sc@9.9.9"], "9.9.9"),
        (["-m", "cord_locator"], "cord_locator"),
        (["-m", "nowhere.onnx"], "nowhere.onnx"),
        (["-device", "tpu"], "tpu"),
        (["b.nii.gz", "-o", "x.nii.gz"], "use -ofolder"),
        (["-o", "folder/"], "-ofolder"),
        (["-o", "x.mgz"], "x.nii.gz"),
        (["-bias", "on"], "bias on: cord_gm_sc"),
        (["-strip", "hd-bet"], "strip hd-bet: cord_gm_sc"),
        (["-series", "3"], "-series 3"),
        (["-no-csa", "-csa-format", "sct"], "-csa-format sct"),
    ],
)
def test_wrong_usage(deepseg, scan, argv, word):
    code, out, err = deepseg("-i", scan, *argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("sct7t_deepseg: error:") and word in err
    assert names(scan.parent) == ["t2s.nii.gz"]


@pytest.mark.parametrize("state", ["sound", "damaged", "damaged and unknown to its entry"])
def test_model_by_path(deepseg, scan, root, tmp_path, state):
    entry = default_entry(json.loads((root / "models.json").read_text()))
    net = tmp_path / "net.onnx"
    content = (root / "sctseg7t" / "weights" / entry["files"][0]["name"]).read_bytes()
    entry["files"][0] |= {"name": "net.onnx", "path": "net.onnx", "urls": []}
    if state != "sound":
        content = content[:10000] + bytes(1000)
    digest = hashlib.sha256(content).hexdigest()
    if state == "damaged":
        entry["files"][0] |= {"bytes": len(content), "sha256": digest}
    net.write_bytes(content)
    net.with_suffix(".json").write_text(json.dumps(entry))
    code, _, err = deepseg("-i", scan, "-m", net, "-ofolder", tmp_path / "path")
    if state == "sound":
        assert code == 0 and deepseg("-i", scan, "-ofolder", tmp_path / "zoo")[0] == 0
        for name in ("t2s_seg.nii.gz", "t2s_gmseg.nii.gz", "t2s_wmseg.nii.gz"):
            assert (tmp_path / "zoo" / name).read_bytes() == (tmp_path / "path" / name).read_bytes()
    else:
        assert code == 2 and str(net) in err and len(err.splitlines()) == 1, err
        # Who retrained a network is told what to write into its entry.
        assert state == "damaged" or ("11000 bytes" in err and digest in err)
        assert not (tmp_path / "path").exists()


# ---------------------------------------------------------------- no cord in view


def test_no_cord_is_said_and_recorded(deepseg, scan, monkeypatch):
    deepseg("-i", scan)
    monkeypatch.setattr("sctseg7t.cord.segmenter.locate", lambda *args: None)
    code, out, err = deepseg("-i", scan)
    assert code == 1 and len(err.splitlines()) == 1
    assert "no cord found" in err and str(scan) in err and "centerline file" in err
    assert "fsleyes" not in out
    for suffix in ("seg", "gmseg", "wmseg"):
        assert not values(scan.parent / f"t2s_{suffix}.nii.gz").any()
    record = json.loads((scan.parent / "t2s_deepseg.json").read_text())
    assert (record["status"], record["usable"]) == ("nothing_found", False)
    assert "no cord found" in " ".join(record["warnings"])
    # Nothing of the earlier run's areas is left beside the empty masks.
    assert {(r["area_mm2"], r["reason"]) for r in rows(scan.parent / "t2s_csa.csv")} == {("", "empty")}


def test_noise_has_no_cord(deepseg, tmp_path):
    random = np.random.default_rng(0)
    nib.save(_image(random.uniform(1, 100, (160, 160, 6)).astype(np.float32)), tmp_path / "uniform.nii.gz")
    nib.save(_image(random.normal(100, 20, (200, 200, 10)).astype(np.float32)), tmp_path / "normal.nii.gz")
    code, _, err = deepseg("-i", tmp_path / "uniform.nii.gz", tmp_path / "normal.nii.gz", "-no-csa")
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert code == 1 and len(lines) == 2 and all("no cord found" in line for line in lines)


@pytest.mark.data
@pytest.mark.parametrize("contrast", ["T1", "T2", "FLAIR"])
def test_brain_has_no_cord(deepseg, data_dir, tmp_path, contrast):
    brains = sorted((data_dir / "brain").rglob(f"patient*/{contrast}.nii.gz"))
    if not brains:
        pytest.skip(f"no brain in {data_dir}")
    for number, path in enumerate(brains):
        image = nib.as_closest_canonical(nib.load(path))
        middle = image.shape[2] // 2
        scan = tmp_path / f"brain{number}.nii.gz"
        nib.save(image.slicer[:, :, middle : middle + 30 : 5], scan)
        code, _, err = deepseg("-i", scan, "-no-csa")
        assert code == 1 and "no cord found" in err, path


def test_run_without_tables_leaves_none_of_an_earlier_run(deepseg, scan):
    assert deepseg("-i", scan)[0] == 0
    (scan.parent / "other_csa.csv").write_text("mine")
    assert deepseg("-i", scan, "-no-csa")[0] == 0
    assert names(scan.parent) == sorted({"t2s.nii.gz", "other_csa.csv", *OUTPUTS} - {"t2s_csa.csv"})


# --- corrected masks ------------------------------------------------------------------


def edit(path):
    """Halve a mask as somebody might by hand; its bytes."""
    image = nib.load(path)
    data = np.asanyarray(image.dataobj).copy()
    data[: data.shape[0] // 2] = 0
    nib.save(nib.Nifti1Image(data, image.affine, image.header), path)
    return path.read_bytes()


def test_an_edited_mask_is_kept_and_measured(scan, deepseg):
    folder = scan.parent
    assert deepseg("-i", scan)[0] == 0
    before = {name: (folder / name).read_bytes() for name in OUTPUTS if name.endswith("seg.nii.gz")}
    drawn = edit(folder / "t2s_seg.nii.gz")
    code, _, err = deepseg("-i", scan)
    assert code == 0 and "corrected: SC" in err and (folder / "t2s_seg.nii.gz").read_bytes() == drawn
    assert {r["corrected"] for r in rows(folder / "t2s_csa.csv")} == {"SC"}
    sc, gm, wm = (np.asanyarray(nib.load(folder / f"t2s_{n}.nii.gz").dataobj) > 0 for n in ("seg", "gmseg", "wmseg"))
    assert not (gm & ~sc).any() and (wm == (sc & ~gm)).all()
    code, _, err = deepseg("-i", scan, "-overwrite")
    assert code == 0 and "replaced" in err
    assert {name: (folder / name).read_bytes() for name in before} == before
    (kept,) = (folder / "replaced").rglob("t2s_seg.nii.gz")
    assert kept.read_bytes() == drawn


def test_files_of_others_are_not_overwritten(scan, deepseg):
    mask = scan.parent / "t2s_seg.nii.gz"
    mask.write_bytes(b"of another tool")
    code, _, err = deepseg("-i", scan)
    assert code == 1 and "t2s_seg.nii.gz: is there already" in err and mask.read_bytes() == b"of another tool"
    assert names(scan.parent) == ["t2s.nii.gz", "t2s_seg.nii.gz"]
    assert deepseg("-i", scan, "-overwrite")[0] == 0
    assert [path.read_bytes() for path in (scan.parent / "replaced").rglob("*.nii.gz")] == [b"of another tool"]


def test_masks_of_an_earlier_task_are_told_and_stay_ours(scan, deepseg):
    deepseg("-i", scan)
    code, _, err = deepseg("-i", scan, "-c", "sc")
    assert code == 0 and "t2s_gmseg.nii.gz, t2s_wmseg.nii.gz: left from an earlier run" in err
    drawn = edit(scan.parent / "t2s_gmseg.nii.gz")
    code, _, err = deepseg("-i", scan)
    assert code == 0 and "corrected: GM" in err and (scan.parent / "t2s_gmseg.nii.gz").read_bytes() == drawn


def test_outputs_of_another_scan_are_not_replaced(scan, deepseg, tmp_path):
    other = tmp_path / "other" / "t2s.nii.gz"
    other.parent.mkdir()
    image = nib.load(scan)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj) * 2, image.affine), other)
    assert deepseg("-i", scan, "-ofolder", tmp_path / "out")[0] == 0
    code, _, err = deepseg("-i", other, "-ofolder", tmp_path / "out")
    assert code == 1 and "another scan" in err and str(scan) in err
    other.write_bytes(scan.read_bytes())
    assert deepseg("-i", other, "-ofolder", tmp_path / "out")[0] == 0


def test_a_drawn_mask_of_the_data_set_counts(small, deepseg, tmp_path):
    scan = tmp_path / "bids/sub-01/anat/sub-01_T2starw.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.write_bytes(small.read_bytes())
    deepseg("-i", scan, "-ofolder", tmp_path / "out")
    drawn = tmp_path / "bids/derivatives/labels/sub-01/anat/sub-01_T2starw_label-SC_seg.nii.gz"
    drawn.parent.mkdir(parents=True)
    drawn.write_bytes((tmp_path / "out/sub-01_T2starw_seg.nii.gz").read_bytes())
    edit(drawn)
    for given, corrected in ((), "SC"), (("-corrections", "none"), ""), (("-corrections", drawn.parents[2]), "SC"):
        code, _, err = deepseg("-i", scan, "-ofolder", tmp_path / "out", *given)
        assert code == 0 and (str(drawn) in err) == bool(corrected)
        assert {r["corrected"] for r in rows(tmp_path / "out/sub-01_T2starw_csa.csv")} == {corrected}
    assert deepseg("-i", scan, "-ofolder", tmp_path / "out", "-corrections", tmp_path / "none")[0] == 2

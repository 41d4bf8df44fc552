"""sct7t_compare: from masks, or from methods that it runs, to tables and report."""

import csv
import json
import os
import stat
import sys

import nibabel as nib
import numpy as np
import pytest
from compare_helpers import disc, write, write_method

pytest.importorskip("scipy")
from sctseg7t.cli.compare import main  # noqa: E402

from sctseg7t.compare import run_methods, sct  # noqa: E402
from sctseg7t.errors import UserError  # noqa: E402
from sctseg7t.zoo.manifest import load_manifest  # noqa: E402
from sctseg7t.zoo.weights import weights  # noqa: E402


@pytest.fixture
def compare(call):
    """Run sct7t_compare in this process: (exit code, stdout, stderr)."""
    return lambda *argv: call(main, [str(arg) for arg in argv])


@pytest.fixture
def folders(tmp_path):
    """Masks of two methods and a reference, of two subjects."""
    write_method(tmp_path / "ours", {"_seg": 7, "_gmseg": 4})
    write_method(tmp_path / "sct", {"_seg": 8, "_gmseg": 3})
    write_method(tmp_path / "truth", {"_seg-manual": 7.5, "_gmseg-manual": 3.7})
    return tmp_path


def given(folders):
    return ["-method", f"ours={folders / 'ours'}", "-method", f"sct={folders / 'sct'}", "-ref", folders / "truth"]


def read(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


TABLES = ("long", "slices", "levels", "scans", "areas", "summary", "outliers", "tests", "agreement", "problems")


class TestTables:
    def test_all_is_there(self, compare, folders):
        out = folders / "out"
        code, said, errors = compare(*given(folders), "-o", out, "-no-report")
        assert (code, errors) == (0, "") and "GM  ours" in said
        assert {path.name for path in out.iterdir()} == {
            *(f"compare_{name}.csv" for name in TABLES),
            "compare.json",
            "report.md",
        }
        slices = read(out / "compare_slices.csv")
        assert len(slices) == 2 * 2 * 2 * 5
        first = slices[0]
        assert (first["case"], first["subject"], first["against"], first["slice"]) == ("sub-01", "01", "reference", "0")
        areas = float(first["csa_method_mm2"]) - float(first["csa_against_mm2"])
        assert float(first["csa_difference_mm2"]) == pytest.approx(areas, abs=1e-3)

    def test_json(self, compare, folders):
        compare(*given(folders), "-o", folders / "out", "-no-report", "-failure", 0.8)
        content = json.loads((folders / "out/compare.json").read_text())
        assert content["settings"]["failure_dice"] == 0.8 and content["reference"] == "reference"
        assert content["provenance"]["command"].startswith("sct7t_compare -method ours=")
        assert content["files"] == sorted([*(f"compare_{name}.csv" for name in TABLES), "report.md"])

    def test_outliers_table(self, compare, folders):
        write(folders / "ours/sub-01/anat/sub-01_T2starw_gmseg.nii.gz", disc(4, slices=[0, 1]))
        write(folders / "sct/sub-02/anat/sub-02_T2starw_gmseg.nii.gz", disc(4, (30, 18)))
        code, _, _ = compare(*given(folders), "-o", folders / "out", "-no-report")
        rows = read(folders / "out/compare_outliers.csv")
        assert code == 0
        assert [(r["subject"], r["slice"], r["method"], r["why"]) for r in rows] == [
            *(("01", str(k), "ours", "missing") for k in (2, 3, 4)),
            *(("02", str(k), "sct", "dice") for k in range(5)),
        ]
        assert float(rows[0]["dice"]) == 0

    def test_groups_from_participants(self, compare, folders):
        table = folders / "participants.tsv"
        table.write_text("participant_id\tgroup\tsite\nsub-01\tHC\tA\nsub-02\tMS\tB\n")
        for options, wanted in (((), {"HC", "MS"}), (("-group", "site"), {"A", "B"})):
            compare(*given(folders), "-o", folders / "out", "-no-report", "-participants", table, *options)
            assert {row["group"] for row in read(folders / "out/compare_scans.csv")} == wanted

    def test_report(self, compare, folders):
        code, said, _ = compare(*given(folders), "-o", folders / "out", "-structure", "GM")
        assert code == 0 and str(folders / "out/report.html") in said
        files = json.loads((folders / "out/compare.json").read_text())["files"]
        assert "report.html" in files and any(name.startswith("figures/") for name in files)
        assert all((folders / "out" / name).is_file() for name in files)
        # A report of other numbers does not stay beside the new tables.
        compare(*given(folders), "-o", folders / "out", "-no-report")
        assert not (folders / "out/report.html").exists() and (folders / "out/report.md").exists()

    def test_a_fault_of_the_report_costs_no_table(self, compare, folders, monkeypatch):
        from sctseg7t.compare import report

        monkeypatch.setattr(report, "write_markdown", lambda *_: 1 / 0)
        code, _, errors = compare(*given(folders), "-o", folders / "out")
        assert code == 1 and "ZeroDivisionError" in errors
        assert len(read(folders / "out/compare_slices.csv")) == 40 and (folders / "out/compare.json").exists()

    def test_nothing_is_written_if_something_fails(self, compare, folders, monkeypatch):
        from sctseg7t.compare import report
        from sctseg7t.errors import OutputError

        compare(*given(folders), "-o", folders / "out", "-no-report")
        before = {path.name: path.read_bytes() for path in (folders / "out").iterdir()}

        def fail(comparison, path):
            raise OutputError(f"{path}: cannot be written (the disk is full); free some space")

        monkeypatch.setattr(report, "write_markdown", fail)
        code, _, errors = compare(*given(folders), "-o", folders / "out", "-no-report", "-failure", 0.9)
        assert code == 2 and f"{folders / 'out' / 'report.md'}: cannot be written" in errors
        assert {path.name: path.read_bytes() for path in (folders / "out").iterdir()} == before


class TestProblems:
    @pytest.mark.parametrize(
        ("spoil", "kind"),
        [
            (lambda folder: write(folder / "sub-01_T2starw_seg.nii.gz", disc(5)), "duplicate"),
            (lambda folder: (folder / "sub-01/anat/sub-01_T2starw_seg.nii.gz").unlink(), "missing"),
            (lambda folder: (folder / "sub-01/anat/sub-01_T2starw_seg.nii.gz").write_bytes(b"no"), "unreadable"),
        ],
    )
    def test_what_is_left_out_is_said_counted_and_in_the_exit_code(self, compare, folders, spoil, kind):
        spoil(folders / "ours")
        code, _, errors = compare(*given(folders), "-o", folders / "out", "-no-report")
        assert code == 1 and "left out: " in errors and "Traceback" not in errors
        left = [row for row in read(folders / "out/compare_problems.csv") if row["left_out"] == "1"]
        assert kind in {row["kind"] for row in left}
        assert json.loads((folders / "out/compare.json").read_text())["left_out"] == len(left)
        cases = {(r["case"], r["method"]) for r in read(folders / "out/compare_scans.csv") if r["structure"] == "SC"}
        assert ("sub-01", "ours") not in cases and {("sub-01", "sct"), ("sub-02", "ours")} <= cases

    def test_nothing_left(self, compare, tmp_path):
        for who in "ab":
            write_method(tmp_path / who, {"_seg": 5}, subjects=("01",))
        write(tmp_path / "b/sub-01/anat/sub-01_T2starw_seg.nii.gz", disc(5) * 7)
        code, _, errors = compare(
            "-method", f"a={tmp_path / 'a'}", "-method", f"b={tmp_path / 'b'}", "-o", tmp_path / "out"
        )
        assert code == 2 and "nothing could be compared" in errors and "0, 7" in errors
        assert not (tmp_path / "out").exists()


class TestUsage:
    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (["-o", "out"], "-method or -run is required"),
            (["-method", "a=nowhere", "-o", "out"], "nowhere: does not exist"),
            (["-run", "gm_sc", "-o", "out"], "give -i SCAN"),
            (["-method", "a=.", "-o", "out", "-thr", "1.5"], "-thr 1.5"),
            (["-method", "a=.", "-o", "out", "-structure", "liver"], "-structure liver"),
        ],
    )
    def test_refused(self, compare, tmp_path, monkeypatch, argv, words):
        monkeypatch.chdir(tmp_path)
        code, _, errors = compare(*argv)
        assert code == 2 and words in errors
        assert not (tmp_path / "out").exists()

    def test_one_name_for_two_methods(self, compare, tmp_path, scan):
        masks = write_method(tmp_path / "m", {"_seg": 5})
        code, _, errors = compare("-method", f"gm_sc={masks}", "-i", scan, "-run", "gm_sc", "-o", tmp_path / "out")
        assert code == 2 and "gm_sc: the name of two methods" in errors


class TestRunNames:
    def test_read(self):
        assert run_methods.read_runs("gm_sc, best=sct_gm_large,m/net.onnx") == {
            "gm_sc": "gm_sc",
            "best": "sct_gm_large",
            "net": "m/net.onnx",
        }

    @pytest.mark.parametrize("text", ["", "a,,b", "a,a", "a/b=c", "reference"])
    def test_refused(self, text):
        with pytest.raises(UserError, match="-run"):
            run_methods.read_runs(text)

    def test_scans_are_of_the_contrast_that_the_models_are_for(self, compare, tmp_path):
        write(tmp_path / "in/sub-01/anat/sub-01_T2starw.nii.gz", disc(5))
        (tmp_path / "in/dataset_description.json").write_text("{}")
        argv = ("-i", tmp_path / "in", "-o", tmp_path / "out", "-ref", tmp_path / "in")
        code, _, errors = compare(*argv, "-run", "brain_lesion")
        assert code == 2 and "_FLAIR.nii.gz" in errors
        code, _, errors = compare(*argv, "-run", "brain_lesion,gm_sc")
        assert code == 2 and "FLAIR, T2starw" in errors and "-pattern" in errors


class TestRun:
    @pytest.fixture(scope="class")
    @staticmethod
    def made(small, open_cpu, tmp_path_factory):
        """A folder of two scans, the second no scan, and a reference: our own masks."""
        folder = tmp_path_factory.mktemp("run")
        found = open_cpu().run(small)
        (folder / "in").mkdir()
        (folder / "in/one.nii.gz").write_bytes(small.read_bytes())
        (folder / "in/two.nii.gz").write_bytes(b"broken")
        for name, suffix in (("SC", "_seg"), ("GM", "_gmseg")):
            (folder / "ref").mkdir(exist_ok=True)
            nib.save(found.masks[name], folder / f"ref/one{suffix}-manual.nii.gz")
        return folder

    @pytest.fixture
    def device(self):
        return ("-device", "cpu", "-threads", "1", "-no-report")

    def test_runs_compares_and_goes_on(self, compare, made, device):
        out = made / "out"
        argv = ("-i", made / "in", "-run", "gm_sc,second=cord_gm_sc", "-ref", made / "ref", "-o", out, *device)
        code, said, errors = compare(*argv)
        assert code == 1 and "left out: second: " in errors and "two.nii.gz" in errors
        rows = read(out / "compare_scans.csv")
        assert [(r["method"], r["structure"], float(r["dice"])) for r in rows] == [
            (m, s, 1.0) for s in ("SC", "GM") for m in ("gm_sc", "second")
        ]
        models = json.loads((out / "compare.json").read_text())["provenance"]["models"]
        assert models["second"]["id"] == "cord_gm_sc" and len(models["second"]["sha256"]) == 64
        mask = out / "masks/second/one_seg.nii.gz"
        before = mask.stat().st_mtime_ns
        assert compare(*argv)[0] == 1 and mask.stat().st_mtime_ns == before

    def test_any_network_by_address_and_hash(self, compare, made, tmp_path, device, monkeypatch):
        monkeypatch.setenv("SCT7T_CACHE", str(tmp_path / "cache"))
        ours = load_manifest().model("cord_gm_sc")
        entry = json.loads(json.dumps(ours.raw)) | {"id": "theirs", "version": "3.0.0"}
        (tmp_path / "net.onnx").write_bytes(weights(ours).read_bytes())
        entry["files"][0] |= {"name": "net.onnx", "path": "net.onnx", "urls": [(tmp_path / "net.onnx").as_uri()]}
        (tmp_path / "theirs.json").write_text(json.dumps(entry))
        argv = ("-i", made / "in/one.nii.gz", "-ref", made / "ref", "-o", tmp_path / "out", *device)
        code, _, errors = compare(*argv, "-run", tmp_path / "theirs.json")
        assert code == 0, errors
        rows = read(tmp_path / "out/compare_scans.csv")
        assert {(r["method"], float(r["dice"])) for r in rows} == {("theirs", 1.0)}
        entry["files"][0]["sha256"] = "0" * 64
        (tmp_path / "theirs.json").write_text(json.dumps(entry))
        code, _, errors = compare(*argv, "-run", tmp_path / "theirs.json")
        assert code == 2 and "net.onnx" in errors

    def test_finding_nothing_is_a_failure_not_an_absence(self, compare, scan, made, tmp_path, device):
        image = nib.load(scan)
        for name, data in (("one", image.get_fdata()), ("none", np.random.default_rng(0).normal(100, 5, image.shape))):
            write(tmp_path / f"scans/{name}.nii.gz", data.astype(np.float32), image.affine)
            (tmp_path / "ref").mkdir(exist_ok=True)
            (tmp_path / f"ref/{name}_seg.nii.gz").write_bytes((made / "ref/one_seg-manual.nii.gz").read_bytes())
        out = tmp_path / "out"
        code, _, errors = compare("-i", tmp_path / "scans", "-run", "sc", "-ref", tmp_path / "ref", "-o", out, *device)
        assert code == 1 and "counts as empty masks" in errors
        rows = {(row["case"], row["outlier"]) for row in read(out / "compare_slices.csv")}
        assert rows == {("one", ""), ("none", "missing")}
        summary = next(r for r in read(out / "compare_summary.csv") if (r["rows"], r["metric"]) == ("slice", "dice"))
        assert (summary["n"], summary["outliers"]) == ("6", "3")
        assert [row["kind"] for row in read(out / "compare_problems.csv") if row["kind"] == "missing"] == []

    def test_one_scan_with_references_by_file(self, compare, scan, made, tmp_path, device):
        truth = ("-ref", f"gm={made / 'ref/one_gmseg-manual.nii.gz'}", made / "ref/one_seg-manual.nii.gz")
        code, _, errors = compare("-i", scan, "-run", "gm_sc", *truth, "-o", tmp_path / "out", *device)
        assert code == 0, errors
        rows = read(tmp_path / "out/compare_scans.csv")
        assert [(r["case"], r["structure"], r["dice"]) for r in rows] == [("t2s", "SC", "1"), ("t2s", "GM", "1")]


# Stands in for the toolbox: it prints what sct_deepseg's help lists, and writes where the programs write.
SCRIPT = """#!{python}
import sys
import nibabel as nib, numpy as np
name, version, tasks = {name!r}, {version}, {tasks!r}
words = sys.argv[1:]
if words == ["-h"]:
    if version >= 7:
        print("usage: sct_deepseg TASK ...", *("%-30s%s" % (task, "Description") for task in tasks), sep="\\n")
    else:
        print("usage: sct_deepseg -task TASK", "To list available tasks, run: sct_deepseg -list-tasks", sep="\\n")
    sys.exit()
if words == ["-list-tasks"]:
    print(*tasks, sep="\\n")
    sys.exit(version >= 7)
with open({log!r}, "a") as log:
    print(name, *words, file=log)
task = None
if name == "sct_deepseg" and version >= 7:
    if words[0] == "-task":
        sys.exit(print("The '-task' flag has been deprecated as of SCT version 7.0."))
    task = words.pop(0)
options = dict(zip(words[::2], words[1::2]))
task = task or options.get("-task")
if task not in tasks and name == "sct_deepseg":
    sys.exit("no such task")
if "broken" in options["-i"]:
    print("first line")
    sys.exit("Error: no cord here")
image = nib.load(options["-i"])
def save(radius, path):
    data = np.zeros(image.shape[:3], np.uint8)
    data[60 - radius:60 + radius, 55:65] = 1
    nib.save(nib.Nifti1Image(data, image.affine), path)
if task and "7t" in task:
    for suffix, radius in (("_sc", 9), ("_gm", 5)):
        save(radius, options["-o"].replace(".nii.gz", "_7t_multiclass" + suffix + ".nii.gz"))
else:
    save({radius} - (name == "sct_deepseg"), options["-o"])
"""


@pytest.mark.skipif(os.name == "nt", reason="the fake programs are scripts")
class TestToolbox:
    @pytest.fixture
    def install(self, tmp_path, monkeypatch):
        """Put programs of the toolbox's names on PATH that draw boxes; returns their log."""

        def put(version, programs, tasks=()):
            folder, log = tmp_path / "bin", tmp_path / "log.txt"
            folder.mkdir()
            for name in programs:
                how = {"python": sys.executable, "log": str(log), "version": version, "tasks": tuple(tasks)}
                text = SCRIPT.format(name=name, radius=4 if name.endswith("gm") else 8, **how)
                (folder / name).write_text(text)
            (folder / "sct_version").write_text(f"#!/bin/sh\necho {version}.5-fake\n")
            for path in folder.iterdir():
                path.chmod(path.stat().st_mode | stat.S_IXUSR)
            monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
            return log

        return put

    @pytest.fixture
    def toolbox(self, install):
        """The programs of version 6."""
        return install(6, ("sct_deepseg_sc", "sct_deepseg_gm"))

    def test_runs_and_reuses(self, compare, toolbox, scan, tmp_path):
        image = nib.load(scan)
        truth = np.zeros(image.shape[:3], np.uint8)
        truth[52:68, 55:65] = 1
        write(tmp_path / "truth_seg.nii.gz", truth, image.affine)
        argv = ("-i", scan, "-sct", "-ref", tmp_path / "truth_seg.nii.gz", "-o", tmp_path / "out", "-no-report")
        code, _, errors = compare(*argv)
        assert code == 0, errors
        rows = read(tmp_path / "out/compare_scans.csv")
        assert [(r["method"], r["structure"], r["dice"]) for r in rows] == [("sct", "SC", "1")]
        said = toolbox.read_text().splitlines()
        assert [line.split()[0] for line in said] == ["sct_deepseg_sc", "sct_deepseg_gm"] and "-c t2s" in said[0]
        model = json.loads((tmp_path / "out/compare.json").read_text())["provenance"]["models"]["sct"]
        assert model["version"] == "6.5-fake" and model["commands"] == ["sct_deepseg_sc", "sct_deepseg_gm"]
        assert compare(*argv)[0] == 0 and len(toolbox.read_text().splitlines()) == 2

    @pytest.mark.parametrize(
        ("version", "tasks", "named", "calls"),
        [
            (7, "spinalcord graymatter gm_sc_7t_t2star", "", ["spinalcord -i", "graymatter -i"]),
            (7, "spinalcord graymatter gm_sc_7t_t2star", "sct_deepseg_7t", ["gm_sc_7t_t2star -i"]),
            (6, "seg_sc_contrast_agnostic seg_gm_sc_7t_t2star", "sct_deepseg", ["-task seg_sc_contrast_agnostic -i"]),
            (6, "seg_sc_contrast_agnostic seg_gm_sc_7t_t2star", "sct_deepseg_7t", ["-task seg_gm_sc_7t_t2star -i"]),
        ],
    )
    def test_tasks_in_the_form_that_is_installed(self, install, scan, tmp_path, version, tasks, named, calls):
        from sctseg7t.compare.matching import scan_of

        log = install(version, ("sct_deepseg",), tasks.split())
        made = sct.run_sct([scan_of(scan)], tmp_path / "masks", commands=sct.find_commands(named))
        assert not made.problems
        said = [line.partition(" ")[2] for line in log.read_text().splitlines()]
        assert [line.startswith(call) for line, call in zip(said, calls, strict=True)] == [True] * len(calls)
        widths = {"SC": 9, "GM": 5} if named == "sct_deepseg_7t" else {"SC": 7, "GM": 7}
        for file in made.files:
            mask = np.asarray(nib.load(file.path).dataobj)
            assert mask.sum() == 2 * widths[file.structure] * 10 * mask.shape[2], file.path
        assert {file.structure for file in made.files} == (
            {"SC"} if calls[0].startswith("-task seg_sc") else {"SC", "GM"}
        )

    def test_a_task_that_is_not_there_is_told(self, install, compare, scan, tmp_path):
        install(7, ("sct_deepseg",), ["spinalcord"])
        assert list(sct.find_commands()) == ["sct_deepseg"]
        code, _, errors = compare("-i", scan, "-sct", "sct_deepseg_7t", "-o", tmp_path / "out")
        assert code == 2 and "with the tasks of sct_deepseg_7t not found" in errors
        code, _, errors = compare("-i", scan, "-sct", "propseg", "-o", tmp_path / "out")
        assert code == 2 and "choose of sct, sct_deepseg, sct_deepseg_7t" in errors

    def test_a_failure_is_told(self, toolbox, scan, tmp_path):
        from sctseg7t.compare.matching import scan_of

        broken = scan.with_name("broken.nii.gz")
        broken.write_bytes(scan.read_bytes())
        made = sct.run_sct([scan_of(broken), scan_of(scan)], tmp_path / "masks")
        assert [p.case for p in made.problems] == ["broken", "broken"] and len(made.files) == 2
        assert "code 1 (Error: no cord here)" in made.problems[0].message
        names = {f"t2s_{name}.{kind}" for name in ("gmseg", "seg") for kind in ("json", "nii.gz")}
        assert {path.name for path in (tmp_path / "masks/sct").iterdir()} == names

    def test_a_hang_is_ended(self, toolbox, scan, tmp_path):
        from sctseg7t.compare.matching import scan_of

        made = sct.run_sct([scan_of(scan)], tmp_path / "masks", timeout=0.001)
        assert not made.files and "was not done after 0.001 s" in made.problems[0].message

    def test_not_installed(self, compare, scan, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        code, _, errors = compare("-i", scan, "-sct", "-o", tmp_path / "out")
        assert code == 2 and "sct_deepseg_sc or sct_deepseg_gm or sct_deepseg not found on PATH" in errors


@pytest.mark.data
class TestDevelopmentScans:
    def test_gm_challenge(self, compare, data_dir, tmp_path):
        data = data_dir / "cord/gm-challenge"
        argv = ("-i", data, "-run", "gm_sc", "-ref", data / "derivatives/labels", "-device", "cpu", "-no-report")
        code, _, errors = compare(*argv, "-o", tmp_path / "out")
        assert code == 0, errors
        rows = [row for row in read(tmp_path / "out/compare_scans.csv") if row["structure"] == "GM"]
        assert [row["subject"] for row in rows] == ["10062Ses1", "10062Ses2", "9584", "9669"]
        assert all(row["run"] == "1" and float(row["dice"]) > 0.88 for row in rows)
        cov = [row for row in read(tmp_path / "out/compare_agreement.csv") if row["against"] == "second run"]
        assert {row["structure"] for row in cov} == {"SC", "GM", "WM"}
        assert all(row["n"] == "72" for row in cov if row["measure"].endswith("slice"))
        # The labels of two more sites have no scans here; second runs have no labels.
        told = [row["message"] for row in read(tmp_path / "out/compare_problems.csv")]
        assert any("sub-9605" in text for text in told) and any("repeatability" in text for text in told)

"""One scan in a worker, in this process: what becomes of faults, and when a scan is done."""

import functools
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from batch_helpers import make_bids

from sctseg7t.cohort import worker
from sctseg7t.cohort.find import find_scans
from sctseg7t.cohort.output_names import rename_old
from sctseg7t.cohort.resume import state
from sctseg7t.cohort.run import make_jobs, run_jobs, set_up
from sctseg7t.inference.pipeline import Options, choose_model
from sctseg7t.inference.record import changed_outputs, read_record
from sctseg7t.qc import keep_card, write_page


@pytest.fixture
def make(small, tmp_path):
    """Jobs of a data set of two, with other options if wanted."""
    bids = make_bids(tmp_path / "bids", small, ["01", "02"])

    def jobs(task="sc", names="bids", out=tmp_path / "out", **options):
        chosen = choose_model(task)
        layout, settings = set_up(chosen, bids, out, options=Options(**options), device="cpu", threads=1, names=names)
        return make_jobs(find_scans(bids), layout, settings)[0]

    return jobs


def sidecar(job):
    return json.loads(job.plan.sidecar.read_text())


def here(jobs):
    """An engine without processes."""
    return ((job, worker.run_scan(job)) for job in jobs)


def test_states(make):
    job = make()[0]
    source = job.plan.source.read_bytes()
    assert state(job, rehash=False) == "new"
    assert worker.run_scan(job).status == "ok" and job.plan.source.read_bytes() == source
    assert state(job, rehash=False) == "done"
    for other in (
        make(threshold=0.3),
        make(largest=False),
        make(volumes="mean"),
        make(names="sct", out=job.log.parent),
    ):
        assert state(other[0], rehash=True) in ("options or model changed", "new")
    for changed in ("sha256", "entry_sha256"):
        # Other weights, or another threshold or step in the entry under the same version.
        model = {**job.models[0], changed: "0" * 64}
        updated = replace(job, settings=replace(job.settings, models=(model, *job.models[1:])))
        assert state(updated, rehash=True) == "options or model changed"
    stamp = job.plan.source.stat()
    data = job.plan.source.read_bytes()
    job.plan.source.write_bytes(data)
    assert state(job, rehash=False) == "unsure" and state(job, rehash=True) == "done"
    assert state(job, rehash=False) == "done" and stamp.st_mtime_ns != job.plan.source.stat().st_mtime_ns
    job.plan.tables["csa"].unlink()
    assert state(job, rehash=False) == "outputs changed"
    job.plan.sidecar.write_text("{")
    assert state(job, rehash=False) == "new"


@pytest.mark.parametrize(
    "error, kind, word",
    [(IndexError("3 is\nout"), "internal", "IndexError: 3 is out"), (MemoryError(), "memory", "memory")],
)
def test_a_fault_of_ours_is_a_record_and_a_log(make, monkeypatch, error, kind, word):
    def run(self, *_, **__):
        raise error

    monkeypatch.setattr("sctseg7t.cord.segmenter.CordSegmenter.run", run)
    job = make()[0]
    outcome = worker.run_scan(job)
    assert (outcome.status, outcome.kind) == ("failed", kind) and word in outcome.error
    assert sidecar(job)["error"] == outcome.error and len(outcome.error.splitlines()) == 1
    assert "Traceback" in job.log.read_text()
    monkeypatch.undo()
    assert worker.run_scan(job).status == "ok" and sidecar(job)["status"] == "ok"


def test_a_full_disk_is_a_failed_scan(make, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sctseg7t.inference.segmenter.save", full)
    job = make()[0]
    outcome = worker.run_scan(job)
    assert outcome.status == "failed" and "No space" in outcome.error
    assert not list(job.plan.sidecar.parent.glob("*.nii.gz"))


def test_a_worker_with_other_weights_refuses(make):
    job = make()[0]
    models = ({**job.models[0], "sha256": "0" * 64},)
    outcome = worker.run_scan(replace(job, settings=replace(job.settings, models=models)))
    assert outcome.status == "fatal" and "same version" in outcome.error
    assert not job.plan.sidecar.exists()


def test_somebodys_own_files_are_moved_and_not_overwritten(make):
    job = make()[0]
    mask = job.plan.masks["SC"]
    mask.parent.mkdir(parents=True)
    mask.write_bytes(b"mine")
    outcome = worker.run_scan(job)
    assert outcome.status == "ok" and mask.name in outcome.notes[0]
    (kept,) = job.task.archive.rglob("*.nii.gz")
    assert kept.read_bytes() == b"mine"


def test_a_failure_leaves_changed_masks_where_they_are(make):
    job = make()[0]
    worker.run_scan(job)
    job.plan.masks["SC"].write_bytes(b"mine")
    worker.give_up(make()[0], "why", "timeout")
    assert job.plan.masks["SC"].read_bytes() == b"mine" and not job.plan.tables["csa"].exists()


def test_half_made_files_of_a_killed_worker_are_swept(make):
    first, second = make()
    for job in (first, second):
        job.plan.sidecar.parent.mkdir(parents=True)
        (job.plan.sidecar.parent / f".sct7t-{job.plan.sidecar.name.removesuffix('_deepseg.json')}-abc").mkdir()
    worker.run_scan(first)
    assert not list(first.plan.sidecar.parent.glob(".sct7t*")) and list(second.plan.sidecar.parent.glob(".sct7t*"))


def test_a_scan_that_changes_after_it_was_read_ahead_is_read_again(make):
    first, second = make()
    worker.run_scan(replace(first, upcoming=second.plan.source))
    image = nib.load(second.plan.source)
    data = np.asanyarray(image.dataobj) * 2
    nib.save(nib.Nifti1Image(data, image.affine), second.plan.source)
    worker.run_scan(second)
    assert sidecar(second)["input"]["sha256"] == sidecar(second)["inputs"]["scan"]["sha256"]
    assert state(second, rehash=True) == "done"
    assert sidecar(second)["inputs"]["scan"]["bytes"] == second.plan.source.stat().st_size


def test_masks_of_other_options_do_not_stay(make):
    hard, soft = make("gm_sc")[0], make("sc", soft=True)[0]
    worker.run_scan(hard)
    worker.run_scan(soft)
    left = sorted(path.name for path in hard.plan.sidecar.parent.iterdir())
    assert left == [
        "sub-01_T2starw_csa.csv",
        "sub-01_T2starw_deepseg.json",
        "sub-01_T2starw_label-SC_probseg.json",
        "sub-01_T2starw_label-SC_probseg.nii.gz",
    ]


def test_a_scan_without_cord_has_empty_masks_and_is_tried_again(make, monkeypatch):
    job = make("gm_sc")[0]
    monkeypatch.setattr("sctseg7t.cord.segmenter.locate", lambda *args: None)
    outcome = worker.run_scan(job)
    assert (outcome.status, outcome.kind) == ("nothing_found", None) and "no cord found" in outcome.error
    assert not any(np.asanyarray(nib.load(path).dataobj).any() for path in job.plan.masks.values())
    assert sidecar(job)["status"] == "nothing_found" and state(job, rehash=True) == "nothing found before"
    monkeypatch.undo()
    assert worker.run_scan(job).status == "ok"


def test_a_scan_without_an_image_that_the_model_needs_is_refused(small, tmp_path):
    bids = make_bids(tmp_path / "bids", small, ["01", "02"])
    second = bids / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    second.write_bytes(b"")
    layout, settings = set_up(choose_model("sc"), bids, tmp_path / "out", templates={"levels": "{stem}_levels.nii"})
    layout = replace(layout, templates={**layout.templates, "second": "{folder}/sub-{sub}_T1w.nii.gz"})
    jobs, refused = make_jobs(find_scans(bids), layout, settings)
    assert jobs[0].plan.others == {"second": second}
    assert list(refused) == ["sub-02_T2starw"] and "second" in refused["sub-02_T2starw"]
    # What a model can do without is only said.
    assert "levels" in jobs[0].task.notes[0]


def test_totals(make):
    jobs = make()
    seen = []
    totals = run_jobs(jobs, {}, here, lambda *args: seen.append(args))
    assert totals.counts == {"ok": 2} and [progress.ended for _, _, progress in seen] == [1, 2]
    totals = run_jobs(jobs, {jobs[0].name: "because"}, here, lambda *args: None)
    assert totals.counts == {"failed": 1, "done": 1} and totals.failures[jobs[0].name].error == "because"
    # A refused scan's files are another's: untouched.
    assert sidecar(jobs[0])["status"] == "ok"


def test_outputs_of_an_older_version_get_the_names_of_now(make):
    """Version 0.1 left the suffix out: who takes up such a folder keeps its corrections and has nothing twice."""
    job = make("gm_sc")[0]
    worker.run_scan(job)
    place, files = job.plan.sidecar.parent, sorted(job.plan.sidecar.parent.iterdir())
    text = job.plan.sidecar.read_text().replace("sub-01_T2starw_", "sub-01_")
    job.plan.sidecar.write_text(text)
    for path in files:
        path.rename(path.with_name(path.name.replace("sub-01_T2starw_", "sub-01_")))
    (place / "sub-01_label-SC_mask.nii.gz").write_bytes(b"mine")
    others = {"sub": "01", "suffix": "MTS"}
    assert not rename_old(job.plan, others) and not job.plan.sidecar.exists()
    totals = run_jobs([job], {job.name: "not now"}, here, lambda *args: None)
    assert not totals.notes and not job.plan.sidecar.exists()
    assert rename_old(job.plan, job.task.about["entities"])
    assert sorted(place.iterdir()) == files and job.plan.masks["SC"].read_bytes() == b"mine"
    assert changed_outputs(job.plan.sidecar, sidecar(job)["files"]) == [job.plan.masks["SC"]]
    assert not rename_old(job.plan, job.task.about["entities"])


def test_what_comes_after_a_scan_never_costs_it(make):
    first, second = make()
    kept = []

    def broken(path):
        kept.append(path)
        raise MemoryError("no more")

    first = replace(first, after=broken)
    assert worker.run_scan(first).status == "ok" and kept == [first.plan.sidecar]
    assert "no more" in first.log.read_text()
    # Its worker dies, or hangs past the limit, once the masks are there.
    assert worker.give_up(first, "gone", "killed").status == "ok" and sidecar(first)["status"] == "ok"
    assert worker.give_up(second, "gone", "killed").status == "failed"


def test_cards_of_a_batch_are_made_by_its_workers(make, tmp_path, monkeypatch):
    page = tmp_path / "qc"
    jobs = [replace(job, after=functools.partial(keep_card, folder=page)) for job in make()]
    assert run_jobs(jobs, {}, here, lambda *_: None).counts["ok"] == 2
    assert len(list((page / ".cards").glob("*.json"))) == 2
    monkeypatch.setattr("sctseg7t.qc.card_store.make_card", None)
    write_page([read_record(job.plan.sidecar) for job in jobs], page)
    assert not (page / ".cards").exists() and (page / "index.html").read_text().count('class="card"') == 2

"""Corrected masks of a batch: edited where they lie, or drawn in the data set's derivatives/labels."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from batch_helpers import make_bids, rows

from sctseg7t.cohort import worker
from sctseg7t.cohort.find import find_scans
from sctseg7t.cohort.resume import state
from sctseg7t.cohort.run import make_jobs, set_up
from sctseg7t.errors import InputError
from sctseg7t.inference import corrections
from sctseg7t.inference.pipeline import Options, choose_model
from sctseg7t.inference.record import read_record

LABELS = "derivatives/labels/sub-01/anat/sub-01_T2starw"


@pytest.fixture
def bids(small, tmp_path):
    return make_bids(tmp_path / "bids", small, ["01"])


@pytest.fixture
def job(bids, tmp_path):
    """The job of the only scan, planned anew: ``job(force=..., overwrite=..., soft=...)``."""

    def plan(task="gm_sc", force=False, overwrite=False, given=None, **options):
        how = {"options": Options(**options), "device": "cpu", "threads": 1}
        chosen = choose_model(task)
        layout, settings = set_up(chosen, bids, tmp_path / "out", corrections=given, overwrite=overwrite, **how)
        return make_jobs(find_scans(bids), layout, settings, force=force)[0][0]

    return plan


@pytest.fixture
def done(job):
    """The first run."""
    first = job()
    assert worker.run_scan(first).status == "ok"
    return first


@pytest.fixture
def no_network(monkeypatch):
    def run(*_, **__):
        raise AssertionError("the network ran")

    monkeypatch.setattr("sctseg7t.cord.segmenter.CordSegmenter.run", run)


def sidecar(job):
    return json.loads(job.plan.sidecar.read_text())


def voxels(path):
    return np.asanyarray(nib.load(path).dataobj) > 0.5


def draw(path, change, to=None):
    """Save a mask again, its voxels changed; its bytes."""
    image = nib.load(path)
    data = np.asanyarray(image.dataobj).copy()
    change(data)
    to = to or path
    to.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, image.affine, image.header), to)
    return to.read_bytes()


def halve(data):
    data[: data.shape[0] // 2] = 0


def empty_first_slice(data):
    data[..., 0] = 0


def table(job):
    return rows(job.plan.tables["csa"])


def areas(job):
    return {(row["tissue"], int(row["slice"])): row["area_mm2"] for row in table(job)}


def test_an_edited_mask_is_kept_and_measured_without_the_network(done, job, no_network):
    masks, before = done.plan.masks, areas(done)
    drawn = draw(masks["SC"], empty_first_slice)
    assert state(done, rehash=False) == "masks corrected"
    outcome = worker.run_scan(done)
    assert outcome.status == "ok" and masks["SC"].read_bytes() == drawn
    sc, gm, wm = (voxels(masks[tissue]) for tissue in ("SC", "GM", "WM"))
    # Ours follow: GM stays within SC, and WM is what is left.
    assert not gm[..., 0].any() and (wm == (sc & ~gm)).all() and any("GM lost" in text for text in outcome.warnings)
    after = areas(done)
    assert after["SC", 0] == after["GM", 0] == "" and all(after[key] == before[key] for key in before if key[1])
    assert {row["corrected"] for row in table(done)} == {"SC"}
    kept = sidecar(done)["corrections"]["masks"]["SC"]
    assert kept["origin"] == "edited" and kept["sha256"] != kept["own_sha256"]
    assert state(job(), rehash=False) == "done" and worker.run_scan(job()).status == "done"


def test_measured_again_is_what_the_network_and_the_correction_give(done, job):
    draw(done.plan.masks["SC"], halve)
    worker.run_scan(done)
    alone = {path: path.read_bytes() for path in done.plan.files()[:-1]}
    assert "measured again, without the network" in done.log.read_text()
    forced = job(force=True)
    assert worker.run_scan(forced).status == "ok" and "network" in forced.log.read_text().partition("load")[2]
    assert {path: path.read_bytes() for path in done.plan.files()[:-1]} == alone


def test_who_corrects_again_gets_the_whole_gm_back(done, job):
    """GM lost to a cord drawn too small is made anew for a larger one."""
    ours = {tissue: path.read_bytes() for tissue, path in done.plan.masks.items()}
    draw(done.plan.masks["SC"], halve)
    worker.run_scan(done)
    assert done.plan.masks["GM"].read_bytes() != ours["GM"]
    done.plan.masks["SC"].write_bytes(ours["SC"])
    assert state(job(), rehash=False) == "masks corrected"
    assert worker.run_scan(job()).status == "ok"
    assert {tissue: path.read_bytes() for tissue, path in done.plan.masks.items()} == ours
    assert sidecar(done)["corrections"]["masks"] == {} and {row["corrected"] for row in table(done)} == {""}


@pytest.mark.parametrize(
    "name", ["_label-GM_seg.nii.gz", "_gmseg.nii.gz", "_gmseg-manual.nii.gz", "_label-GM_mask.nii"]
)
def test_a_drawn_mask_counts_before_an_edited_one(bids, done, job, name, no_network):
    masks, drawn = done.plan.masks, bids / (LABELS + name)
    draw(masks["GM"], halve, drawn)
    (bids / (LABELS + name.partition(".")[0] + ".json")).write_text('{"GeneratedBy": [{"Author": "Ann B"}]}')
    edited = draw(masks["GM"], empty_first_slice)
    outcome = worker.run_scan(job())
    assert outcome.status == "ok" and any("Ann B" in text and drawn.name in text for text in outcome.warnings)
    assert (voxels(masks["GM"]) == voxels(drawn)).all() and (
        voxels(masks["WM"]) == (voxels(masks["SC"]) & ~voxels(drawn))
    ).all()
    # The edited one makes way, and is kept.
    (moved,) = (job().task.archive.parent).rglob(masks["GM"].name)
    assert moved.read_bytes() == edited and any(masks["GM"].name in note for note in outcome.notes)
    kept = sidecar(done)["corrections"]["masks"]["GM"]
    assert (kept["origin"], kept["author"]) == ("labels", "Ann B") and state(job(), rehash=False) == "done"
    beside = json.loads(masks["GM"].with_name("sub-01_T2starw_label-GM_mask.json").read_text())
    assert beside["RawSources"]


def test_a_drawing_that_is_taken_away_gives_ours_back(bids, done, job):
    ours = {tissue: path.read_bytes() for tissue, path in done.plan.masks.items()}
    drawn = bids / (LABELS + "_seg.nii.gz")
    draw(done.plan.masks["SC"], halve, drawn)
    worker.run_scan(job())
    assert voxels(done.plan.masks["SC"]).sum() < voxels(done.plan.masks["WM"]).sum() * 2
    # None are wanted, or there is none any more.
    assert state(job(given="none"), rehash=False) == "masks corrected"
    drawn.unlink()
    assert worker.run_scan(job()).status == "ok"
    assert {tissue: path.read_bytes() for tissue, path in done.plan.masks.items()} == ours


def other_grid(path):
    image = nib.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += 5
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), path)


def fractions(path):
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj) * 0.4, image.affine), path)


def labels(path):
    image = nib.load(path)
    data = np.asanyarray(image.dataobj).copy()
    data[..., 0] *= 2
    nib.save(nib.Nifti1Image(data, image.affine), path)


@pytest.mark.parametrize("spoil, word", [(other_grid, "moved by"), (fractions, "fractions"), (labels, "0 to 2")])
@pytest.mark.parametrize("where", ["edited", "drawn"])
def test_a_correction_that_cannot_be_used_fails_the_scan_and_stays(bids, done, job, spoil, word, where):
    mask = done.plan.masks["SC"]
    ours = mask.read_bytes()
    if where == "drawn":
        mask = bids / (LABELS + "_label-SC_seg.nii.gz")
        draw(done.plan.masks["SC"], halve, mask)
    spoil(mask)
    drawn = mask.read_bytes()
    outcome = worker.run_scan(job())
    assert (
        (outcome.status, outcome.kind) == ("failed", "input") and word in outcome.error and mask.name in outcome.error
    )
    assert mask.read_bytes() == drawn and state(job(), rehash=False) == "failed before"
    # Still known as somebody's own: no run writes over it.
    assert worker.run_scan(job()).status == "failed" and mask.read_bytes() == drawn
    mask.unlink()
    assert worker.run_scan(job()).status == "ok" and done.plan.masks["SC"].read_bytes() == ours


def test_a_correction_survives_another_failure(done, job):
    drawn = draw(done.plan.masks["SC"], halve)
    worker.run_scan(done)
    worker.give_up(job(), "why", "timeout")
    assert done.plan.masks["SC"].read_bytes() == drawn and not done.plan.masks["GM"].exists()
    assert worker.run_scan(job()).status == "ok"
    assert done.plan.masks["SC"].read_bytes() == drawn and {row["corrected"] for row in table(done)} == {"SC"}


def test_a_drawn_gm_that_leaves_the_cord_is_flagged_and_not_cut(bids, done, job):
    drawn = bids / (LABELS + "_label-GM_seg.nii.gz")

    def beyond(data):
        data[:3, :3, 1] = 1

    draw(done.plan.masks["GM"], beyond, drawn)
    outcome = worker.run_scan(job())
    assert (voxels(done.plan.masks["GM"]) == voxels(drawn)).all()
    flagged = {int(row["slice"]) for row in table(done) if "gm_outside_sc" in row["flags"]}
    assert flagged == {1} and any("gm_outside_sc" in text for text in outcome.warnings)


def test_two_drawings_of_one_tissue_are_told(bids, done, job):
    for k, name in enumerate(("_seg.nii.gz", "_label-SC_seg.nii.gz")):
        draw(done.plan.masks["SC"], (halve, empty_first_slice)[k], bids / (LABELS + name))
    outcome = worker.run_scan(job())
    assert outcome.status == "failed" and "keep one" in outcome.error
    (bids / (LABELS + "_seg.nii.gz")).write_bytes((bids / (LABELS + "_label-SC_seg.nii.gz")).read_bytes())
    assert worker.run_scan(job()).status == "ok"


def test_corrections_of_a_record(bids, done):
    record = read_record(done.plan.sidecar)
    assert corrections.of_record(record) == {} and corrections.plan_of(record).masks == done.plan.masks
    draw(done.plan.masks["SC"], halve, bids / (LABELS + "_seg.nii.gz"))
    (found,) = corrections.of_record(record).values()
    assert (found.tissue, found.origin) == ("SC", "labels") and not corrections.same({"SC": found}, record.raw)
    with pytest.raises(InputError, match="keep one"):
        draw(done.plan.masks["SC"], empty_first_slice, bids / (LABELS + "_seg-manual.nii.gz"))
        corrections.of_record(record)


def test_the_page_shows_what_counts(bids, done):
    from sctseg7t.qc.load_saved import load_saved

    drawn = bids / (LABELS + "_seg.nii.gz")
    draw(done.plan.masks["SC"], halve, drawn)
    saved = load_saved(read_record(done.plan.sidecar))
    sc, gm, wm = (saved.masks[tissue][..., 0] for tissue in ("SC", "GM", "WM"))
    assert saved.corrected == ("SC",) and sc.sum() == voxels(drawn).sum()
    assert not (gm & ~sc).any() and (wm == (sc & ~gm)).all() and any("after the tables" in p for p in saved.problems)
    worker.run_scan(done)
    saved = load_saved(read_record(done.plan.sidecar))
    assert saved.corrected == ("SC",) and saved.problems == [] and saved.changed == []


def test_the_comparison_tells_that_a_mask_is_not_the_method_s_own(done):
    from sctseg7t.compare.load_masks import load_case
    from sctseg7t.compare.types import Case, Settings

    case = Case("one", masks={("ours", tissue): done.plan.masks[tissue] for tissue in ("SC", "GM")})
    assert not [p for p in load_case(case, Settings()).problems if p.kind == "corrected"]
    for _ in range(2):
        draw(done.plan.masks["SC"], halve)
        (told,) = [p for p in load_case(case, Settings()).problems if p.kind == "corrected"]
        assert told.structure == "SC" and not told.left_out
        worker.run_scan(done)


def test_metadata_that_vanished_is_made_again_without_the_network(done, no_network):
    gone = done.plan.masks["SC"].with_name("sub-01_T2starw_label-SC_mask.json")
    content = gone.read_text()
    gone.unlink()
    assert state(done, rehash=False) == "outputs changed"
    assert worker.run_scan(done).status == "ok" and gone.read_text() == content


def test_a_scan_stored_anew_keeps_its_metadata(bids, done, job):
    scan = done.plan.source
    nib.save(nib.load(scan), scan.with_name("sub-01_T2starw.nii"))
    scan.unlink()
    again = job()
    assert worker.run_scan(again).status == "ok"
    names = sorted(path.name for path in again.plan.sidecar.parent.iterdir())
    assert [name for name in names if name.endswith(".nii.gz")] == []
    assert len([name for name in names if name.endswith("_mask.json")]) == 3 and state(again, rehash=False) == "done"


def test_soft_masks_take_a_drawn_one_as_it_is(bids, job):
    soft = job(soft=True)
    worker.run_scan(soft)
    drawn = bids / (LABELS + "_seg.nii.gz")
    draw(soft.plan.masks["SC"], lambda data: np.round(data, out=data), drawn)
    assert worker.run_scan(job(soft=True)).status == "ok"
    sc, gm, wm = (np.asanyarray(nib.load(soft.plan.masks[tissue]).dataobj) for tissue in ("SC", "GM", "WM"))
    assert (sc == np.asanyarray(nib.load(drawn).dataobj)).all() and (gm <= sc).all()
    assert np.allclose(wm, sc - gm) and ((gm > 0) & (gm < 1)).any()


def test_outputs_among_the_drawn_masks_are_not_taken_for_them(bids, tmp_path):
    chosen = choose_model("sc")
    where = bids / "derivatives" / "labels"
    layout, settings = set_up(chosen, bids, where, device="cpu", threads=1, names="sct")
    first = make_jobs(find_scans(bids), layout, settings)[0][0]
    assert worker.run_scan(first).status == "ok" and sidecar(first)["corrections"]["masks"] == {}
    assert state(replace(first), rehash=False) == "done"
    # What somebody has drawn there under the very name of our output is theirs.
    first.plan.sidecar.unlink()
    drawn = draw(first.plan.masks["SC"], halve)
    outcome = worker.run_scan(first)
    assert outcome.status == "ok" and first.plan.masks["SC"].read_bytes() == drawn
    assert sidecar(first)["corrections"]["masks"]["SC"]["origin"] == "edited"

"""Finding scans, choosing among them, and naming what comes of them."""

import json
import os

import pytest

from sctseg7t.bids import entities_of
from sctseg7t.cohort.find import Scan, find_scans, read_qc_fail, select
from sctseg7t.cohort.job import file_beside
from sctseg7t.cohort.output_names import mask_metadata, plan_scan, write_description
from sctseg7t.errors import UsageError

SUFFIXES = {"SC": "_seg", "GM": "_gmseg"}
BRAIN_SUFFIXES = {"LESION": "_lesionseg", "LABELS": "_lesionlabels"}


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


@pytest.fixture
def bids(tmp_path):
    touch(
        tmp_path,
        "sub-01/anat/sub-01_T2starw.nii.gz",
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-01/anat/sub-01_T2starw.json",
        "sub-02/ses-1/anat/sub-02_ses-1_run-1_T2starw.nii.gz",
        "sub-02/ses-2/anat/sub-02_ses-2_run-1_T2starw.nii",
        "sub-02/ses-2/dwi/sub-02_ses-2_T2starw.nii.gz",
        "derivatives/labels/sub-01/anat/sub-01_T2starw.nii.gz",
        "sourcedata/sub-09/anat/sub-09_T2starw.nii.gz",
        "sub-01/.cache/anat/sub-01_T2starw.nii.gz",
    )
    return tmp_path


def names(scans):
    return [scan.name for scan in scans]


@pytest.mark.parametrize(
    "path, entities",
    [
        (
            "sub-01/ses-2/anat/sub-01_ses-2_acq-x_run-1_T2starw.nii.gz",
            {"sub": "01", "ses": "2", "acq": "x", "run": "1", "suffix": "T2starw"},
        ),
        ("sub-01/ses-2/anat/sub-01_T2starw.nii.gz", {"sub": "01", "ses": "2", "suffix": "T2starw"}),
        ("t2s.nii.gz", {}),
        ("sub-01.nii.gz", {}),
        ("acq-x_sub-01_T2starw.nii.gz", {}),
        ("sub-01_my scan_T2starw.nii.gz", {}),
        ("sub-01_acq-a_acq-b_T2starw.nii.gz", {}),
    ],
)
def test_entities(path, entities):
    assert entities_of(path) == entities


def test_bids_data_set(bids):
    scans = find_scans(bids)
    assert [scan.relative for scan in scans] == [
        "sub-01/anat/sub-01_T2starw.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_run-1_T2starw.nii.gz",
        "sub-02/ses-2/anat/sub-02_ses-2_run-1_T2starw.nii",
    ]
    assert names(scans)[1] == "sub-02_ses-1_run-1_T2starw" and scans[0].path.is_file()


@pytest.mark.parametrize(
    "pattern, count", [("T2w", 1), ("*_run-1_*", 2), ("sub-02/*/dwi/*", 1), ("*_T2starw.nii", 1), ("*_T2*", 5)]
)
def test_patterns(bids, pattern, count):
    assert len(find_scans(bids, pattern)) == count


def test_what_there_is_instead(bids):
    for asked in ({"pattern": "MTS"}, {"suffix": "FLAIR"}, {"suffix": None}):
        with pytest.raises(UsageError, match=r"T2starw \(4\), T2w \(1\)"):
            find_scans(bids, **asked)


def test_plain_folders_without_masks_outputs_and_hidden_files(tmp_path):
    touch(tmp_path, "a/t2s.nii.gz", "b/t2s.nii", "b/t2s_seg.nii.gz", "b/.t2s.nii.gz", "b/notes.txt", "out/t2s_seg.nii")
    touch(tmp_path, "out/new_gmseg.nii.gz", "b/sub-01_T2w.nii.gz")
    assert names(find_scans(tmp_path, leave=tmp_path / "out")) == ["a/t2s", "b/t2s"]
    assert names(find_scans(tmp_path, "*_seg")) == ["b/t2s_seg", "out/t2s_seg"]


def test_a_link_to_nowhere_is_a_scan(bids):
    """Not fetched yet: it is to fail with its reason, not to go missing."""
    os.symlink("nowhere", bids / "sub-01" / "anat" / "sub-01_run-2_T2starw.nii.gz")
    assert "sub-01_run-2_T2starw" in names(find_scans(bids))


def test_names_are_unique(tmp_path):
    touch(tmp_path, "sub-01/ses-1/anat/sub-01_T2starw.nii.gz", "sub-01/ses-2/anat/sub-01_T2starw.nii.gz")
    scans = find_scans(tmp_path)
    assert len(set(names(scans))) == 2
    plans = [plan_scan(scan, tmp_path / "out", SUFFIXES) for scan in scans]
    assert plans[0].masks["SC"].name == "sub-01_ses-1_T2starw_label-SC_mask.nii.gz"
    assert plans[0].sidecar != plans[1].sidecar


@pytest.mark.parametrize(
    "include, exclude, left",
    [
        (["sub-02"], [], [1, 2]),
        (["02"], ["*ses-2*"], [1]),
        (["sub-01_T2starw.nii.gz"], [], [0]),
        (["sub-01_T2starw"], [], [0]),
        ([], ["sub-02/ses-1"], [0, 2]),
        ([], ["sub-02_ses-2"], [0, 1]),
    ],
)
def test_select(bids, include, exclude, left):
    scans = find_scans(bids)
    assert select(scans, include, exclude) == ([scans[k] for k in left], [])


def test_select_by_text_file_says_what_is_unknown(bids):
    (bids / "list.txt").write_text("# ours\nsub-01\n\nsub-77\n")
    kept, notes = select(find_scans(bids), exclude=[str(bids / "list.txt")])
    assert len(kept) == 2 and len(notes) == 1 and "sub-77" in notes[0]
    with pytest.raises(UsageError, match="no scan"):
        select(find_scans(bids), include=["sub-77"])
    with pytest.raises(UsageError, match="none.txt"):
        select(find_scans(bids), include=["none.txt"])


@pytest.mark.parametrize(
    "text",
    [
        "FILES_SEG:\n- sub-01_T2starw.nii.gz\nFILES_GMSEG:\n- sub-02_ses-1_run-1_T2starw.nii.gz\nFILES_LABEL:\n",
        "- sub-01_T2starw.nii.gz\n- some/where/sub-02_ses-1_run-1_T2starw.nii.gz\n",
    ],
)
def test_qc_fail(bids, text):
    (bids / "qc_fail.yml").write_text(text)
    kept, notes = select(find_scans(bids), qc_fail=bids / "qc_fail.yml")
    assert names(kept) == ["sub-02_ses-2_run-1_T2starw"] and notes == []


@pytest.mark.parametrize("text", ["FILES_SEG: sub-01\n", "a: [", "- 3\n", "!!python/object/apply:os.getcwd []\n"])
def test_qc_fail_of_another_form(tmp_path, text):
    (tmp_path / "qc_fail.yml").write_text(text)
    with pytest.raises(UsageError, match="qc_fail.yml"):
        read_qc_fail(tmp_path / "qc_fail.yml")


def test_plan_names(bids):
    scan = find_scans(bids)[1]
    plan = plan_scan(scan, bids / "out", SUFFIXES, soft=True)
    place = bids / "out" / "sub-02" / "ses-1" / "anat"
    assert plan.masks["GM"] == place / "sub-02_ses-1_run-1_T2starw_label-GM_probseg.nii.gz"
    assert plan.sidecar == place / "sub-02_ses-1_run-1_T2starw_deepseg.json" and list(plan.tables) == ["csa"]
    plan = plan_scan(scan, bids / "out", SUFFIXES, names="sct", tables=("csa", "levels"))
    assert plan.masks["GM"] == place / "sub-02_ses-1_run-1_T2starw_gmseg.nii.gz"
    assert plan.tables["levels"].name == "sub-02_ses-1_run-1_T2starw_csa_perlevel.csv"


def test_no_two_scans_of_a_subject_share_an_output(tmp_path):
    folder = "sub-01/ses-1/anat"
    touch(
        tmp_path,
        *(
            f"{folder}/sub-01_ses-1_{name}.nii.gz"
            for name in (
                "T2starw",
                "MTS",
                "FLAIR",
                "acq-a_T2starw",
                "echo-1_T2starw",
                "echo-2_T2starw",
                "desc-x_T2starw",
            )
        ),
    )
    taken = []
    for scan in find_scans(tmp_path, "*"):
        for names, suffixes in (("bids", {**SUFFIXES, **BRAIN_SUFFIXES}), ("sct", SUFFIXES)):
            plan = plan_scan(scan, tmp_path / "out" / names, suffixes, names=names)
            taken += {*plan.files(), *plan.possible_tables()}
            assert all(path.name.startswith(f"{scan.name}_") for path in plan.files())
    assert len(taken) == len(set(taken)) > 7 * 10


def test_names_of_a_brain_s_outputs(tmp_path):
    def planned(relative, entities, **how):
        scan = Scan(tmp_path / relative, relative, "scan", entities)
        return plan_scan(scan, tmp_path / "out", BRAIN_SUFFIXES, tables=("lesions", "load"), **how)

    entities = {"sub": "01", "acq": "7T", "suffix": "FLAIR"}
    plan = planned("sub-01/anat/sub-01_acq-7T_FLAIR.nii.gz", entities)
    assert [path.name for path in plan.files()] == [
        "sub-01_acq-7T_FLAIR_label-LESION_mask.nii.gz",
        "sub-01_acq-7T_FLAIR_desc-lesions_dseg.nii.gz",
        "sub-01_acq-7T_FLAIR_lesions.csv",
        "sub-01_acq-7T_FLAIR_lesionload.csv",
        "sub-01_acq-7T_FLAIR_deepseg.json",
    ]
    metadata = {path.name: content for path, content in mask_metadata(plan, "x").items()}
    assert metadata["sub-01_acq-7T_FLAIR_label-LESION_mask.json"]["Type"] == "Lesion"
    assert "Type" not in metadata["sub-01_acq-7T_FLAIR_desc-lesions_dseg.json"]
    soft = planned("sub-01/anat/sub-01_acq-7T_FLAIR.nii.gz", entities, soft=True)
    assert soft.masks["LABELS"] == plan.masks["LABELS"] and soft.masks["LESION"].name.endswith("_probseg.nii.gz")
    sct = planned("a/flair.nii.gz", {})
    assert [path.name for path in sct.masks.values()] == ["flair_lesionseg.nii.gz", "flair_lesionlabels.nii.gz"]


def test_templates_of_files_beside_a_scan(bids):
    touch(bids, "sub-02/ses-10/anat/sub-02_ses-10_run-1_T2starw.nii.gz")
    found = [file_beside("ses-{earlier}", scan, bids).name for scan in find_scans(bids)]
    assert found == ["ses-", "ses-", "ses-2", "ses-1"]
    path = file_beside("derivatives/{folder}/{stem}_{sub}{ses}.nii.gz", find_scans(bids)[1], bids)
    assert path == bids / "derivatives/sub-02/ses-1/anat/sub-02_ses-1_run-1_T2starw_021.nii.gz"
    with pytest.raises(UsageError, match="stem"):
        file_beside("{subject}.nii.gz", find_scans(bids)[0], bids)


def test_description_names_its_source(bids):
    (bids / "dataset_description.json").write_text(json.dumps({"Name": "Ours", "DatasetDOI": "doi:10.1/x"}))
    (bids / "out").mkdir()
    write_description(bids / "out", bids, [{"id": "m"}])
    content = json.loads((bids / "out" / "dataset_description.json").read_text())
    assert content["SourceDatasets"] == [{"URL": "doi:10.1/x", "Name": "Ours"}]
    assert content["DatasetLinks"] == {"raw": ".."}


def test_what_the_spinal_cord_toolbox_makes_of_a_scan_is_no_scan(tmp_path):
    products = (
        "t2s_seg t2s_gmseg t2s_wmseg t2s_seg_labeled t2s_seg_labeled_discs t2s_labeled_discs t2s_seg_softseg "
        "t2s_softseg t2s_labels t2s_labels-disc t2s_centerline mask_t2s t2s_pmj t2s_csf t2s_lesion t2s_label-SC_mask "
        "warp_template2anat warp_t2s2mt t2s_warp_field template2anat PAM50_cord"
    ).split()
    touch(tmp_path, "a/t2s.nii.gz", "a/mt1_crop.nii.gz", *(f"a/{name}.nii.gz" for name in products))
    notes = []
    assert names(find_scans(tmp_path, notes=notes)) == ["a/mt1_crop", "a/t2s"]
    assert len(notes) == 1 and "PAM50_cord" in notes[0] and f"and {len(products) - 5} more" in notes[0]
    assert names(find_scans(tmp_path, "*_softseg")) == ["a/t2s_seg_softseg", "a/t2s_softseg"]


def test_a_phase_image_is_no_scan(tmp_path):
    folder = "sub-01/anat/sub-01_part"
    touch(tmp_path, f"{folder}-mag_T2starw.nii.gz", f"{folder}-phase_T2starw.nii.gz")
    notes = []
    assert names(find_scans(tmp_path, notes=notes)) == ["sub-01_part-mag_T2starw"] and "part-phase" in notes[0]
    assert names(find_scans(tmp_path, "*part-phase*")) == ["sub-01_part-phase_T2starw"]


def test_an_output_folder_among_the_scans_is_refused(bids, tmp_path):
    for out in ("sub-01", "sub-02/ses-1", "sub-02/ses-1/anat"):
        with pytest.raises(UsageError, match="holds scans"):
            find_scans(bids, leave=bids / out)
    touch(bids, "sub-out/sub-01/anat/sub-01_T2starw_label-SC_mask.nii.gz")
    assert len(find_scans(bids, leave=bids / "sub-out")) == 3
    plain = tmp_path / "plain"
    touch(plain, "a/t2s.nii.gz", "b/t2s.nii.gz")
    with pytest.raises(UsageError, match="holds scans"):
        find_scans(plain, leave=plain / "b")

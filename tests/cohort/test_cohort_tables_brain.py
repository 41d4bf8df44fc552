"""The cohort's tables and figures of brains, alone and beside cords."""

import csv
import json

import numpy as np
import pytest
from qc_brain_helpers import SHAPE, ellipsoids, write_brain
from qc_helpers import write_failed, write_scan

from sctseg7t.cohort import find_records
from sctseg7t.cohort.figures import draw_cohort
from sctseg7t.cohort.find import Scan
from sctseg7t.cohort.output_names import mask_metadata, plan_scan
from sctseg7t.cohort.tables import write_tables
from sctseg7t.errors import UsageError
from sctseg7t.measure.columns import LESION_COLUMNS, LOAD_COLUMNS
from sctseg7t.measure.columns import names as names_of

SUFFIXES = {"LESION": "_lesionseg", "LABELS": "_lesionlabels"}


def rows(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def names(files):
    return [path.name for path in files]


@pytest.fixture
def brains(tmp_path):
    write_brain(tmp_path)
    write_brain(tmp_path, "sub-02_FLAIR", mask=np.zeros(SHAPE, bool), raw={"brain": {}})
    return tmp_path


def test_tables_of_brains(brains):
    files, notes = write_tables(brains)
    assert names(files) == ["cohort_lesions.csv", "cohort_scans.csv", "cohort_dictionary.csv"] and notes == []
    lesions, (first, second) = rows(brains / "cohort_lesions.csv"), rows(brains / "cohort_scans.csv")
    own = rows(brains / "sub-01_FLAIR_lesions.csv")
    assert [r["volume_mm3"] for r in lesions] == [r["volume_mm3"] for r in own]
    assert {(r["subject"], r["scan"]) for r in lesions} == {("01", "sub-01_FLAIR")}
    assert lesions[0]["location"] == "periventricular" and lesions[-1]["counted"] == "0"
    assert (first["n_lesions"], first["n_small"], first["brain_volume_ml"]) == ("3", "1", "1400.0000")
    assert float(first["load_ml"]) == pytest.approx(sum(float(r["volume_mm3"]) for r in own) / 1000, abs=1e-3)
    assert float(first["periventricular_ml"]) == pytest.approx(float(own[0]["volume_mm3"]) / 1000, abs=1e-3)
    # Zeros where there are none; no largest lesion, and no volume that nobody measured.
    assert (second["n_lesions"], second["load_ml"], second["status"]) == ("0", "0.0000", "ok")
    assert (second["largest_volume_mm3"], second["brain_volume_ml"], second["reason"]) == ("", "", "no_lesions")
    assert "n_slices" not in first and "sc_area_mm2_mean" not in first


def test_every_column_is_described_and_none_of_a_scan_s_own_is_lost(brains):
    write_scan(brains, "sub-01_T2starw")
    write_tables(brains)
    described = {(r["table"], r["column"]): r["description"] for r in rows(brains / "cohort_dictionary.csv")}
    for name in ("cohort_slices.csv", "cohort_lesions.csv", "cohort_scans.csv"):
        with open(brains / name, encoding="utf-8") as stream:
            columns = next(csv.reader(stream))
        assert len(columns) == len(set(columns)) and all(described[name, column] for column in columns)
    with open(brains / "cohort_lesions.csv", encoding="utf-8") as stream:
        assert set(names_of(LESION_COLUMNS)) - set(next(csv.reader(stream))) == {"filename"}
    with open(brains / "cohort_scans.csv", encoding="utf-8") as stream:
        assert set(names_of(LOAD_COLUMNS)) - set(next(csv.reader(stream))) == {"filename"}


def test_cords_and_brains_in_one_folder(brains):
    write_scan(brains, "sub-01_T2starw")
    write_failed(brains, "sub-03_FLAIR", "cannot be read")
    files, notes = write_tables(brains)
    assert names(files) == [
        "cohort_slices.csv",
        "cohort_lesions.csv",
        "cohort_scans.csv",
        "cohort_dictionary.csv",
    ]
    found = {r["scan"]: r for r in rows(brains / "cohort_scans.csv")}
    cord, brain, failed = (found[name] for name in ("sub-01_T2starw", "sub-01_FLAIR", "sub-03_FLAIR"))
    assert float(cord["sc_area_mm2_mean"]) > 30 and cord["load_ml"] == "" and cord["n_slices"] == "6"
    assert float(brain["load_ml"]) > 2 and brain["sc_area_mm2_mean"] == "" and brain["n_slices"] == ""
    assert failed["status"] == "failed" and failed["load_ml"] == failed["n_slices"] == ""
    assert notes == []


def test_table_of_an_earlier_run_goes_with_its_scans(brains):
    write_scan(brains, "sub-01_T2starw")
    write_tables(brains)
    for path in brains.glob("*FLAIR_deepseg.json"):
        path.unlink()
    write_tables(brains)
    assert not (brains / "cohort_lesions.csv").exists() and (brains / "cohort_slices.csv").exists()
    with open(brains / "cohort_scans.csv", encoding="utf-8") as stream:
        assert "load_ml" not in next(csv.reader(stream))


def test_missing_tables_are_said_by_kind(brains):
    write_scan(brains, "sub-01_T2starw")
    (brains / "sub-01_FLAIR_lesions.csv").unlink()
    (brains / "sub-01_FLAIR_lesionload.csv").unlink()
    (brains / "sub-01_T2starw_csa.csv").unlink()
    _, notes = write_tables(brains)
    assert sorted(note.split(";")[0] for note in notes) == [
        "no area table beside the masks of sub-01_T2starw",
        "no lesion table beside the masks of sub-01_FLAIR",
        "no table of lesion load beside the masks of sub-01_FLAIR",
    ]


def test_flags_of_lesions_are_counted(tmp_path):
    mask = ellipsoids()
    mask[0:3, 50:53, 50] = mask[40:43, 0, 60] = True
    write_brain(tmp_path, mask=mask)
    write_tables(tmp_path)
    assert rows(tmp_path / "cohort_scans.csv")[0]["flags"] == "touches_image_edge:2"


def test_figure_of_loads_by_group(brains):
    pytest.importorskip("matplotlib")
    for n in range(3, 9):
        write_brain(brains, f"sub-{n:02d}_FLAIR", mask=ellipsoids(which=[((40, 50, 50), (n, n, n))]), regions=False)
    lines = [f"sub-{n:02d}\t{'HC' if n == 2 else 'MS'}\n" for n in range(1, 9)]
    (brains / "participants.tsv").write_text("participant_id\tgroup\n" + "".join(lines))
    write_tables(brains, participants=brains / "participants.tsv")
    files = draw_cohort(brains, "group")
    assert names(files) == ["cohort_lesions.png", "cohort_lesions.svg"]
    drawn = files[1].read_text()
    assert "(n=7)" in drawn and "(n=1)" in drawn and "lesion load, mL" in drawn
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in draw_cohort(brains, "group")] == before
    with pytest.raises(UsageError, match="age"):
        draw_cohort(brains, "age")


def test_figures_of_both_kinds(brains):
    pytest.importorskip("matplotlib")
    write_scan(brains, "sub-01_T2starw")
    write_tables(brains)
    stems = {path.stem for path in draw_cohort(brains)}
    assert stems == {"cohort_csa", "cohort_measures", "cohort_lesions"}


def test_names_of_a_brain_s_outputs(tmp_path):
    def planned(relative, entities, **how):
        scan = Scan(tmp_path / relative, relative, "scan", entities)
        return plan_scan(scan, tmp_path / "out", SUFFIXES, tables=("lesions", "load"), **how)

    entities = {"sub": "01", "acq": "7T", "suffix": "FLAIR"}
    plan = planned("sub-01/anat/sub-01_acq-7T_FLAIR.nii.gz", entities)
    assert [path.name for path in plan.files()] == [
        "sub-01_acq-7T_label-LESION_mask.nii.gz",
        "sub-01_acq-7T_desc-lesions_dseg.nii.gz",
        "sub-01_acq-7T_FLAIR_lesions.csv",
        "sub-01_acq-7T_FLAIR_lesionload.csv",
        "sub-01_acq-7T_FLAIR_deepseg.json",
    ]
    cord = Scan(
        tmp_path / "sub-01/anat/sub-01_acq-7T_T2starw.nii.gz", "sub-01/anat/sub-01_acq-7T_T2starw.nii.gz", "c", entities
    )
    cord = plan_scan(cord, tmp_path / "out", {"SC": "_seg"})
    assert not (set(cord.files()) | cord.possible_tables()) & (set(plan.files()) | plan.possible_tables())
    metadata = {path.name: content for path, content in mask_metadata(plan, "x").items()}
    assert metadata["sub-01_acq-7T_label-LESION_mask.json"]["Type"] == "Lesion"
    assert "Type" not in metadata["sub-01_acq-7T_desc-lesions_dseg.json"]
    soft = planned("sub-01/anat/sub-01_acq-7T_FLAIR.nii.gz", entities, soft=True)
    assert soft.masks["LABELS"] == plan.masks["LABELS"] and soft.masks["LESION"].name.endswith("_probseg.nii.gz")
    sct = planned("a/flair.nii.gz", {})
    assert [path.name for path in sct.masks.values()] == ["flair_lesionseg.nii.gz", "flair_lesionlabels.nii.gz"]


def test_records_say_their_kind(brains):
    write_scan(brains, "sub-01_T2starw")
    write_failed(brains, "sub-03_FLAIR")
    kinds = {record.name: record.kind for record in find_records(brains)}
    assert kinds == {"sub-01_FLAIR": "brain", "sub-02_FLAIR": "brain", "sub-01_T2starw": "cord", "sub-03_FLAIR": None}
    (brain,) = [record for record in find_records(brains) if record.name == "sub-01_FLAIR"]
    raw = json.loads(brain.path.read_text())
    del raw["files"]["sub-01_FLAIR_lesions.csv"]
    brain.path.write_text(json.dumps(raw))
    # A table that the run did not write is not its own, though it lies beside.
    assert next(r for r in find_records(brains) if r.name == brain.name).table("lesions") is None

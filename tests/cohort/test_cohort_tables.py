"""The cohort's tables and figures, from records on disk: of cords, of brains, and of both in one folder."""

import csv
import json

import numpy as np
import pytest
from batch_helpers import rows
from qc_brain_helpers import SHAPE, ellipsoids, write_brain
from qc_helpers import write_failed, write_scan

from sctseg7t.cohort import find_records
from sctseg7t.cohort.figures import draw_cohort
from sctseg7t.cohort.run import Progress
from sctseg7t.cohort.tables import summary, write_tables
from sctseg7t.errors import InputError, OutputError, UsageError
from sctseg7t.files import write_csv
from sctseg7t.measure.columns import CSA_COLUMNS

BLANK = {column.name: "" for column in CSA_COLUMNS}
THREE = [(80, 12, ""), (90, 14, "sc_area_jump"), (40, 6, "touches_image_edge")]


def csa(slices, level=None):
    """Rows of a scan of SC and GM areas: [(sc, gm, flag), ...]."""
    found = []
    for k, (sc, gm, flag) in enumerate(slices):
        for tissue, area in (("SC", sc), ("GM", gm)):
            areas = {} if area is None else {"area_mm2": float(area), "area_corrected_mm2": area * 0.9}
            found.append({"slice": k, "tissue": tissue, "flags": flag, "level": level, **areas})
    return found


def read_back(tmp_path, slices):
    return rows(write_csv(tmp_path / "csa.csv", CSA_COLUMNS, csa(slices)))


def put(out, subject, table, **more):
    """A scan's record, with an area table of these rows."""
    place = out / f"sub-{subject}" / "anat"
    place.mkdir(parents=True)
    raw = {
        "status": "ok",
        "name": f"sub-{subject}_T2starw",
        "entities": {"sub": subject, "suffix": "T2starw"},
        "tool": {"name": "sctseg7t", "version": "9"},
        "input": {"file": "x.nii.gz", "path": "x.nii.gz", "sha256": "ab"},
        "outputs": {"SC": f"sub-{subject}_T2starw_label-SC_mask.nii.gz"},
        "files": {
            f"sub-{subject}_T2starw_csa.csv": {},
            f"sub-{subject}_T2starw_label-SC_mask.nii.gz": {"sha256": "cd"},
        },
        "warnings": ["one", "two"],
        **more,
    }
    (place / f"sub-{subject}_T2starw_deepseg.json").write_text(json.dumps(raw))
    write_csv(place / f"sub-{subject}_T2starw_csa.csv", CSA_COLUMNS, table)


def header(path):
    with open(path, encoding="utf-8") as stream:
        return next(csv.reader(stream))


def files_of(paths):
    return [path.name for path in paths]


@pytest.fixture
def cords(tmp_path):
    put(tmp_path, "01", csa(THREE))
    put(tmp_path, "02", csa([(70, None, "empty_GM"), (72, 10, "")]))
    put(tmp_path, "03", [], status="failed", error="a\nb", error_kind="timeout", outputs={}, files={})
    return tmp_path


@pytest.fixture
def brains(tmp_path):
    mask = ellipsoids()
    mask[0, 50, 50] = True
    write_brain(tmp_path, mask=mask)
    write_brain(tmp_path, "sub-02_FLAIR", mask=np.zeros(SHAPE, bool), raw={"brain": {}})
    return tmp_path


# --- numbers of a scan ----------------------------------------------------------------


def test_summary_leaves_cut_slices_out(tmp_path):
    found = summary(read_back(tmp_path, THREE))
    assert (found["n_slices"], found["n_averaged"], found["n_flagged"]) == (3, 2, 2)
    assert found["flags"] == "sc_area_jump:1;touches_image_edge:1"
    assert (found["sc_area_mm2_mean"], found["sc_area_mm2_min"], found["sc_area_mm2_max"]) == (85, 80, 90)
    assert found["gm_area_corrected_mm2_mean"] == pytest.approx(13 * 0.9)
    assert found["gm_sc_area_ratio"] == pytest.approx(26 / 170)
    assert "wm_area_mm2_mean" not in found
    found = summary(read_back(tmp_path, [(70, None, "empty_GM"), (72, 10, "")]))
    assert found["gm_sc_area_ratio"] == pytest.approx(10 / 72) and found["n_averaged"] == 2
    # What is not measured is empty and not zero.
    assert summary([]) == {}
    assert "sc_area_mm2_mean" not in summary(read_back(tmp_path, [(None, None, "empty_SC")]))


def test_summary_names_what_it_leaves_out_and_averages_contrast(tmp_path):
    slices = [(80, 12, "past_cord_end"), (90, 14, ""), (92, 15, "gm_contrast_low"), (140, 9, "past_cord_end")]
    rows = csa([slices[0], *slices[1:], slices[3]])
    for row, cnr in zip((row for row in rows if row["tissue"] == "GM"), (9, 3, 1, 9, 9)):
        row["gm_wm_cnr"] = float(cnr)
    found = summary([{name: str(value) for name, value in {**BLANK, **row}.items()} for row in rows])
    assert found["left_out"] == "past_cord_end:0, 3-4"
    assert found["flags"] == "gm_contrast_low:1;past_cord_end:3" and found["n_averaged"] == 2
    assert found["gm_wm_cnr_mean"] == 2 and "gm_wm_contrast_mean" not in found
    assert summary(read_back(tmp_path, THREE))["left_out"] == "touches_image_edge:2"


# --- tables ---------------------------------------------------------------------------


def test_tables_of_cords(cords):
    files, notes = write_tables(cords)
    assert files_of(files) == ["cohort_slices.csv", "cohort_scans.csv", "cohort_dictionary.csv"] and notes == []
    scans = rows(cords / "cohort_scans.csv")
    assert [r["status"] for r in scans] == ["ok", "ok", "failed"]
    assert (scans[2]["error"], scans[2]["error_kind"], scans[2]["n_slices"]) == ("a b", "timeout", "")
    assert scans[0]["warnings"] == "one | two" and scans[0]["n_warnings"] == "2" and scans[0]["input_sha256"] == "ab"
    slices = rows(cords / "cohort_slices.csv")
    # The empty cell, not 0.
    assert len(slices) == 10 and [r["area_mm2"] for r in slices].count("") == 1


def test_tables_of_brains(brains):
    files, notes = write_tables(brains)
    assert files_of(files) == ["cohort_lesions.csv", "cohort_scans.csv", "cohort_dictionary.csv"] and notes == []
    lesions, (first, second) = rows(brains / "cohort_lesions.csv"), rows(brains / "cohort_scans.csv")
    own = rows(brains / "sub-01_FLAIR_lesions.csv")
    assert [r["volume_mm3"] for r in lesions] == [r["volume_mm3"] for r in own]
    assert {(r["participant_id"], r["scan"]) for r in lesions} == {("sub-01", "sub-01_FLAIR")}
    assert lesions[0]["location"] == "periventricular" and lesions[-1]["counted"] == "0"
    assert (first["n_lesions"], first["n_small"], first["brain_volume_ml"]) == ("3", "2", "1400.0000")
    assert float(first["load_ml"]) == pytest.approx(sum(float(r["volume_mm3"]) for r in own) / 1000, abs=1e-3)
    assert float(first["periventricular_ml"]) == pytest.approx(float(own[0]["volume_mm3"]) / 1000, abs=1e-3)
    # Zeros where there are none; no largest lesion, and no volume that nobody measured.
    assert (second["n_lesions"], second["load_ml"], second["status"]) == ("0", "0.0000", "ok")
    assert (second["largest_volume_mm3"], second["brain_volume_ml"], second["reason"]) == ("", "", "no_lesions")
    assert "n_slices" not in first and "sc_area_mm2_mean" not in first and first["flags"] == "touches_image_edge:1"


def test_cords_and_brains_in_one_folder(brains):
    write_scan(brains, "sub-01_T2starw")
    write_failed(brains, "sub-03_FLAIR", "cannot be read")
    kinds = {record.name: record.kind for record in find_records(brains)}
    assert kinds == {"sub-01_FLAIR": "brain", "sub-02_FLAIR": "brain", "sub-01_T2starw": "cord", "sub-03_FLAIR": None}
    files, notes = write_tables(brains)
    assert files_of(files) == [
        *("cohort_slices.csv", "cohort_lesions.csv", "cohort_scans.csv", "cohort_dictionary.csv")
    ]
    found = {r["scan"]: r for r in rows(brains / "cohort_scans.csv")}
    cord, brain, failed = (found[name] for name in ("sub-01_T2starw", "sub-01_FLAIR", "sub-03_FLAIR"))
    assert float(cord["sc_area_mm2_mean"]) > 30 and cord["load_ml"] == "" and cord["n_slices"] == "6"
    assert float(brain["load_ml"]) > 2 and brain["sc_area_mm2_mean"] == "" and brain["n_slices"] == ""
    assert failed["status"] == "failed" and failed["load_ml"] == failed["n_slices"] == ""
    described = {(r["table"], r["column"]): r["description"] for r in rows(brains / "cohort_dictionary.csv")}
    for path in files[:-1]:
        assert all(described[path.name, column] for column in header(path))
    # A table of an earlier run goes with its scans.
    for path in brains.glob("*FLAIR_deepseg.json"):
        path.unlink()
    write_tables(brains)
    assert not (brains / "cohort_lesions.csv").exists() and (brains / "cohort_slices.csv").exists()
    assert "load_ml" not in header(brains / "cohort_scans.csv")


def test_a_table_of_other_columns_is_named(cords):
    path = cords / "sub-01" / "anat" / "sub-01_T2starw_csa.csv"
    write_csv(path, (*CSA_COLUMNS, "later"), [{**row, "later": 1} for row in csa(THREE)])
    with pytest.raises(InputError, match="sub-01_T2starw_csa.csv.*later"):
        write_tables(cords)


def test_participants_are_joined(cords):
    text = "participant_id\tsex\tSlice\tnote\nsub-01\tF\t7\t=1+1\n02\tn/a\t8\té\n"
    (cords / "participants.tsv").write_bytes(text.encode("cp1252"))
    (cords / "participants.json").write_text('{"sex": {"Description": "of the subject"}}')
    _, notes = write_tables(cords, participants=cords / "participants.tsv")
    found = rows(cords / "cohort_scans.csv")
    assert [(r["sex"], r["participant_Slice"]) for r in found] == [("F", "7"), ("", "8"), ("", "")]
    assert found[1]["note"] == "é"
    assert len(notes) == 2 and "sub-03" in notes[0] and "participant_Slice" in notes[1]
    described = {r["column"]: r["description"] for r in rows(cords / "cohort_dictionary.csv")}
    assert described["sex"] == "of the subject"
    (cords / "participants.tsv").write_text("participant_id,sex\n")
    with pytest.raises(UsageError, match="participant_id"):
        write_tables(cords, participants=cords / "participants.tsv")


def test_a_participant_with_two_rows_and_one_without_scans_are_told(cords):
    text = "participant_id\tgroup\tage\nsub-02\tHC\t30\nsub-02\tMS\t30\nsub-01\tHC\t20\nsub-01\tHC\t20\nsub-99\tHC\t1\n"
    (cords / "participants.tsv").write_text(text)
    _, notes = write_tables(cords, participants=cords / "participants.tsv")
    assert [r["group"] for r in rows(cords / "cohort_scans.csv")] == ["HC", "", ""]
    for word in ("differ for sub-02", "no row for sub-03", "tables of sub-99"):
        assert sum(word in note for note in notes) == 1


def test_sessions_are_joined(tmp_path):
    for session in ("1", "2"):
        put(tmp_path / session, "01", csa(THREE), entities={"sub": "01", "ses": session, "suffix": "T2starw"})
    root = tmp_path / "bids"
    (root / "sub-01").mkdir(parents=True)
    table = "session_id\tacq_time\tage\tstatus\nses-2\t2020-02-02\t41\tn/a\nses-1\t2020-01-01\t40\tgood\n"
    (root / "sub-01" / "sub-01_sessions.tsv").write_text(table)
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t39\n")
    write_tables(tmp_path, participants=root / "participants.tsv", root=root)
    found = rows(tmp_path / "cohort_scans.csv")
    assert [(r["session_id"], r["acq_time"], r["age"], r["session_age"], r["session_status"]) for r in found] == [
        ("ses-1", "2020-01-01", "39", "40", "good"),
        ("ses-2", "2020-02-02", "39", "41", ""),
    ]


def test_ratings_are_joined_unless_the_masks_have_changed(cords):
    first = find_records(cords)[0]

    def rating(scan, rater, verdict, hash_, time="2026"):
        return {"scan": scan, "rater": rater, "verdict": verdict, "rating": 3, "hash": hash_, "time": time}

    given = [
        rating("sub-01_T2starw", "bob", "fail", first.rating_hash),
        rating("sub-01_T2starw", "ann", "fail", first.rating_hash, "2025"),
        rating("sub-01_T2starw", "ann", "pass", first.rating_hash),
        rating("sub-02_T2starw", "ann", "pass", "other"),
        rating("sub-77_T2starw", "ann", "pass", ""),
    ]
    _, notes = write_tables(cords, ratings=given)
    assert [(r["verdict"], r["grade"], r["rater"]) for r in rows(cords / "cohort_scans.csv")] == [
        ("pass;fail", "3;3", "ann;bob"),
        ("", "", ""),
        ("", "", ""),
    ]
    assert any("sub-02_T2starw are of masks that have changed" in n for n in notes) and any(
        "sub-77" in n for n in notes
    )
    assert {r["verdict"] for r in rows(cords / "cohort_slices.csv")} == {"pass;fail", ""}


def test_a_broken_record_is_a_failed_scan(cords):
    (cords / "sub-02" / "anat" / "sub-02_T2starw_deepseg.json").write_text('{"status": "ok"')
    write_tables(cords)
    broken = rows(cords / "cohort_scans.csv")[1]
    assert broken["status"] == "failed" and "sub-02_T2starw_deepseg.json" in broken["error"]


def test_missing_tables_are_said_by_kind(brains):
    write_scan(brains, "sub-01_T2starw")
    for name in ("sub-01_FLAIR_lesions.csv", "sub-01_FLAIR_lesionload.csv", "sub-01_T2starw_csa.csv"):
        (brains / name).unlink()
    _, notes = write_tables(brains)
    assert sorted(note.split(";")[0] for note in notes) == [
        "no area table beside the masks of sub-01_T2starw",
        "no lesion table beside the masks of sub-01_FLAIR",
        "no table of lesion load beside the masks of sub-01_FLAIR",
    ]


def test_an_earlier_table_survives_a_failure(cords, monkeypatch):
    write_tables(cords)
    before = (cords / "cohort_slices.csv").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OutputError, match="disk is full"):
        write_tables(cords)
    assert (cords / "cohort_slices.csv").read_bytes() == before and not list(cords.glob(".tmp-*"))


# --- figures --------------------------------------------------------------------------


def test_figures_of_cords_by_group(cords):
    (cords / "participants.tsv").write_text("participant_id\tsex\nsub-01\tF\nsub-02\tM\n")
    write_tables(cords, participants=cords / "participants.tsv")
    files = draw_cohort(cords, "sex")
    assert files_of(files) == [f"cohort_{name}.{kind}" for name in ("csa", "measures") for kind in ("png", "svg")]
    drawn = (cords / "figures" / "cohort_csa.svg").read_text()
    assert "F (n=1)" in drawn and "M (n=1)" in drawn and "slice, inferior" in drawn
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in draw_cohort(cords, "sex")] == before
    with pytest.raises(UsageError, match="age"):
        draw_cohort(cords, "age")


def test_figures_by_level_and_of_nothing(tmp_path):
    put(tmp_path, "01", csa([(80, 12, "")], level=4) + csa([(90, 14, "")], level=3))
    write_tables(tmp_path)
    draw_cohort(tmp_path)
    assert "vertebral level" in (tmp_path / "figures" / "cohort_csa.svg").read_text()
    (tmp_path / "sub-01" / "anat" / "sub-01_T2starw_deepseg.json").unlink()
    write_tables(tmp_path)
    with pytest.raises(UsageError, match="no measured slice"):
        draw_cohort(tmp_path)


def test_figures_of_loads_by_group(brains):
    for n in range(3, 8):
        write_brain(brains, f"sub-{n:02d}_FLAIR", mask=ellipsoids(which=[((40, 50, 50), (n, n, n))]), regions=False)
    write_scan(brains, "sub-01_T2starw")
    lines = [f"sub-{n:02d}\t{'HC' if n == 2 else 'MS'}\n" for n in range(1, 8)]
    (brains / "participants.tsv").write_text("participant_id\tgroup\n" + "".join(lines))
    write_tables(brains, participants=brains / "participants.tsv")
    files = draw_cohort(brains, "group")
    assert {path.stem for path in files} == {"cohort_csa", "cohort_measures", "cohort_lesions"}
    drawn = (brains / "figures" / "cohort_lesions.svg").read_text()
    assert "(n=6)" in drawn and "(n=1)" in drawn and "lesion load, mL" in drawn


@pytest.mark.parametrize(
    "ended, total, seconds, text",
    [
        (0, 9, 0, ""),
        (9, 9, 5, ""),
        (1, 11, 2, "about 20 s left"),
        (10, 110, 60, "about 10 min left"),
        (1, 1001, 36, "about 10 h left"),
        (1, 10001, 36, "about 4 d left"),
    ],
)
def test_time_left(ended, total, seconds, text):
    assert Progress(ended, total, seconds).left() == text

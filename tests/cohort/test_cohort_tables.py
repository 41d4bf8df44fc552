"""The cohort's tables and figures, from records on disk."""

import csv
import json

import pytest

from sctseg7t.cohort import find_records
from sctseg7t.cohort.figures import draw_cohort
from sctseg7t.cohort.participants import read_participants
from sctseg7t.cohort.run import Progress
from sctseg7t.cohort.tables import summary, write_tables
from sctseg7t.errors import OutputError, UsageError
from sctseg7t.measure.columns import CSA_COLUMNS, names

COLUMNS = names(CSA_COLUMNS)


def slice_row(**cells):
    return {**dict.fromkeys(COLUMNS, ""), **{key: str(value) for key, value in cells.items()}}


def csa(slices, scale=1.0, level=None):
    """Rows of a scan of SC and GM areas: [(sc, gm, flag), ...]."""
    found = []
    for k, (sc, gm, flag) in enumerate(slices):
        for tissue, area in (("SC", sc), ("GM", gm)):
            value = {} if area is None else {"area_mm2": area * scale, "area_corrected_mm2": area * scale * 0.9}
            found.append(slice_row(slice=k, tissue=tissue, flags=flag, level=level or "", **value))
    return found


def put(out, subject, rows, **more):
    """A scan's record, with a table of these rows."""
    place = out / f"sub-{subject}" / "anat"
    place.mkdir(parents=True)
    raw = {
        "status": "ok",
        "name": f"sub-{subject}_T2starw",
        "entities": {"sub": subject, "suffix": "T2starw"},
        "tool": {"name": "sctseg7t", "version": "9"},
        "input": {"file": "x.nii.gz", "path": "x.nii.gz", "sha256": "ab"},
        "outputs": {"SC": f"sub-{subject}_label-SC_mask.nii.gz"},
        "files": {f"sub-{subject}_csa.csv": {}, f"sub-{subject}_label-SC_mask.nii.gz": {"sha256": "cd"}},
        "warnings": ["one", "two"],
        **more,
    }
    (place / f"sub-{subject}_deepseg.json").write_text(json.dumps(raw))
    with open(place / f"sub-{subject}_csa.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def rows(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def out(tmp_path):
    put(tmp_path, "01", csa([(80, 12, ""), (90, 14, "sc_area_jump"), (40, 6, "touches_image_edge")]))
    put(tmp_path, "02", csa([(70, None, "empty_GM"), (72, 10, "")]))
    put(tmp_path, "03", [], status="failed", error="a\nb", error_kind="timeout", outputs={}, files={})
    return tmp_path


def test_summary_leaves_cut_slices_out():
    found = summary(csa([(80, 12, ""), (90, 14, "sc_area_jump"), (40, 6, "touches_image_edge")]))
    assert (found["n_slices"], found["n_averaged"], found["n_flagged"]) == (3, 2, 2)
    assert found["flags"] == "sc_area_jump:1;touches_image_edge:1"
    assert (found["sc_area_mm2_mean"], found["sc_area_mm2_min"], found["sc_area_mm2_max"]) == (85, 80, 90)
    assert found["gm_area_corrected_mm2_mean"] == pytest.approx(13 * 0.9)
    assert found["gm_sc_area_ratio"] == pytest.approx(26 / 170)
    assert "wm_area_mm2_mean" not in found


def test_ratio_is_over_slices_that_have_both():
    found = summary(csa([(70, None, "empty_GM"), (72, 10, "")]))
    assert found["gm_sc_area_ratio"] == pytest.approx(10 / 72) and found["n_averaged"] == 2


def test_nothing_measured_is_empty_and_not_zero():
    assert summary([]) == {}
    assert "sc_area_mm2_mean" not in summary(csa([(None, None, "empty_SC")]))


def test_scan_table(out):
    files, notes = write_tables(out)
    assert [path.name for path in files] == ["cohort_slices.csv", "cohort_scans.csv", "cohort_dictionary.csv"]
    scans = rows(out / "cohort_scans.csv")
    assert [r["status"] for r in scans] == ["ok", "ok", "failed"] and notes == []
    assert (scans[2]["error"], scans[2]["error_kind"], scans[2]["n_slices"]) == ("a b", "timeout", "")
    assert scans[0]["warnings"] == "one | two" and scans[0]["n_warnings"] == "2" and scans[0]["input_sha256"] == "ab"
    assert len(rows(out / "cohort_slices.csv")) == 10


def test_pandas_reads_the_types(out):
    pandas = pytest.importorskip("pandas")
    write_tables(out)
    table = pandas.read_csv(out / "cohort_slices.csv")
    assert table["area_mm2"].dtype == float and table["slice"].dtype == int
    # The empty cell, not 0.
    assert table["area_mm2"].isna().sum() == 1


def test_only_the_chosen_records(out):
    chosen = [r.path for r in find_records(out) if r.entities["sub"] == "02"]
    write_tables(out, paths=[*chosen, out / "sub-09" / "x_deepseg.json"])
    assert {r["subject"] for r in rows(out / "cohort_slices.csv")} == {"02"}


def test_participants_are_joined(out):
    text = "participant_id\tsex\tSlice\tnote\nsub-01\tF\t7\t=1+1\n02\tn/a\t8\té\n"
    (out / "participants.tsv").write_bytes(text.encode("cp1252"))
    (out / "participants.json").write_text('{"sex": {"Description": "of the subject"}}')
    _, notes = write_tables(out, participants=out / "participants.tsv")
    found = rows(out / "cohort_scans.csv")
    assert [(r["sex"], r["participant_Slice"]) for r in found] == [("F", "7"), ("", "8"), ("", "")]
    assert found[1]["note"] == "é"
    assert len(notes) == 2 and "sub-03" in notes[0] and "participant_Slice" in notes[1]
    described = {r["column"]: r["description"] for r in rows(out / "cohort_dictionary.csv")}
    assert described["sex"] == "of the subject"


@pytest.mark.parametrize("text", ["", "subject\tsex\n", "participant_id,sex\n"])
def test_participants_of_another_form(tmp_path, text):
    (tmp_path / "participants.tsv").write_text(text)
    with pytest.raises(UsageError, match="participant_id"):
        read_participants(tmp_path / "participants.tsv")


def test_a_broken_record_is_a_failed_scan(out):
    (out / "sub-02" / "anat" / "sub-02_deepseg.json").write_text('{"status": "ok"')
    broken = find_records(out)[1]
    assert broken.status == "failed" and "sub-02_deepseg.json" in broken.error and broken.masks == {}
    write_tables(out)
    assert [r["status"] for r in rows(out / "cohort_scans.csv")] == ["ok", "failed", "failed"]


def test_records_of_single_runs_count(tmp_path, small, deepseg):
    deepseg("-i", small, "-ofolder", tmp_path)
    (record,) = find_records(tmp_path)
    assert record.status == "ok" and record.name == "t2s" and record.image == small
    write_tables(tmp_path)
    assert len(rows(tmp_path / "cohort_slices.csv")) == 9


def test_a_missing_table_is_said(out):
    (out / "sub-01" / "anat" / "sub-01_csa.csv").unlink()
    _, notes = write_tables(out)
    assert len(notes) == 1 and "sub-01_T2starw" in notes[0]


def test_an_earlier_table_survives_a_failure(out, monkeypatch):
    write_tables(out)
    before = (out / "cohort_slices.csv").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OutputError, match="disk is full"):
        write_tables(out)
    assert (out / "cohort_slices.csv").read_bytes() == before and not list(out.glob(".tmp-*"))


def test_figures(out):
    pytest.importorskip("matplotlib")
    (out / "participants.tsv").write_text("participant_id\tsex\nsub-01\tF\nsub-02\tM\n")
    write_tables(out, participants=out / "participants.tsv")
    files = draw_cohort(out, "sex")
    assert [path.name for path in files] == [
        "cohort_csa.png",
        "cohort_csa.svg",
        "cohort_measures.png",
        "cohort_measures.svg",
    ]
    drawn = (out / "figures" / "cohort_csa.svg").read_text()
    assert "F (n=1)" in drawn and "M (n=1)" in drawn and "slice, inferior" in drawn
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in draw_cohort(out, "sex")] == before
    with pytest.raises(UsageError, match="age"):
        draw_cohort(out, "age")


def test_figures_by_level_and_of_nothing(tmp_path):
    pytest.importorskip("matplotlib")
    put(tmp_path, "01", csa([(80, 12, "")], level=4) + csa([(90, 14, "")], level=3))
    write_tables(tmp_path)
    draw_cohort(tmp_path)
    assert "vertebral level" in (tmp_path / "figures" / "cohort_csa.svg").read_text()
    (tmp_path / "sub-01" / "anat" / "sub-01_deepseg.json").unlink()
    write_tables(tmp_path)
    with pytest.raises(UsageError, match="no measured slice"):
        draw_cohort(tmp_path)


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

"""A page that is mailed names files, and no folder of the machine that it was made on."""

import json
import os
from pathlib import Path

import pytest
from qc_helpers import cards_of, meta_of, write_failed, write_scan

from sctseg7t.cohort import find_records
from sctseg7t.inference.record import read_record
from sctseg7t.qc import write_page
from sctseg7t.qc.mailable import reason_of, scan_id, without_folders


@pytest.mark.parametrize(
    "text, expected",
    [
        ("/home/ann/study/sub-01.nii.gz: no cord", "sub-01.nii.gz: no cord"),
        ("read (/data/a-b/c_d/x.csv), then '/srv/y.json'", "read (x.csv), then 'y.json'"),
        (r"C:\Users\Ann\x.nii.gz and \\server\share\y.nii", "x.nii.gz and y.nii"),
        ("~/work/x.nii", "x.nii"),
        ("/home/ann/My study/raw data/x.nii: no cord", "x.nii: no cord"),
        # What is no path stays.
        ("GM/SC is 1/2 of 3 mm/s, and/or https://a.org/b/c", "GM/SC is 1/2 of 3 mm/s, and/or https://a.org/b/c"),
    ],
)
def test_folders_go_and_names_stay(tmp_path, text, expected):
    record = read_record(write_scan(tmp_path))
    assert without_folders(text, record) == expected
    assert without_folders({"a": [text], "path": text, "n": 1}, record) == {"a": [expected], "n": 1}


def test_folders_of_the_scan_may_have_spaces(tmp_path):
    folder = tmp_path / "My study, two"
    record = read_record(write_failed(folder, "a b", f"{folder}/a b.nii.gz: no cord found in {folder}/a b.nii.gz"))
    assert reason_of(record) == "no cord found in a b.nii.gz"


def test_a_scan_far_away_is_not_filed_under_its_folders(tmp_path):
    near = read_record(write_scan(tmp_path / "out" / "sub-01"))
    assert scan_id(near, tmp_path / "qc") == "../out/sub-01/sub-01_T2starw_deepseg.json"
    far = scan_id(near, tmp_path / "some" / "where" / "qc")
    assert far.endswith("/sub-01_T2starw_deepseg.json") and "out" not in far
    assert far == scan_id(near, tmp_path / "some" / "where" / "qc")
    other = read_record(write_scan(tmp_path / "out" / "two"))
    assert far != scan_id(other, tmp_path / "some" / "where" / "qc")


def test_the_whole_page(tmp_path):
    study = tmp_path / "Ann Miller" / "secret study"
    levels = str(study / "levels" / "l.nii.gz")
    raw = {
        "warnings": [f"{study}/sub-01_T2starw.nii.gz: is dark", "/opt/strange_place/x.json: odd"],
        "options": {"model": "/opt/models/own.onnx", "levels": levels},
    }
    write_scan(study, raw=raw)
    sidecar = write_scan(study, "sub-02_T2starw")
    content = json.loads(sidecar.read_text())
    content["input"]["path"] = "../../../raw data/sub-02_T2starw.nii.gz"
    sidecar.write_text(json.dumps(content))
    (study / "sub-01_T2starw_gmseg.nii.gz").write_bytes(b"broken")
    write_failed(study, "sub-03_T2starw", f"{study}/sub-03_T2starw.nii.gz: no cord found")
    (study / "sub-04_deepseg.json").write_text("{")
    page = write_page(find_records(study), tmp_path / "else" / "where" / "qc")
    text = page.read_text()
    for name in (
        tmp_path.name,
        "secret study",
        "Ann Miller",
        "raw data",
        "strange_place",
        "/opt/models",
        str(Path.home()),
        os.getcwd(),
    ):
        assert name not in text, name
    # The reason comes first: in the list there is no room for more.
    reasons = {scan["name"]: scan["reasons"] for scan in meta_of(page)["scans"]}
    assert reasons["sub-03_T2starw"] == ["no cord found"] and reasons["sub-04"][0].startswith("is no record of a scan")
    card = cards_of(page)["sub-01_T2starw"]
    assert "sub-01_T2starw.nii.gz: is dark" in card["warnings"] and card["provenance"]["options"]["model"] == "own.onnx"
    # The scans are found again all the same.
    again = write_page([], tmp_path / "else" / "where" / "qc")
    assert len(cards_of(again)) == 4

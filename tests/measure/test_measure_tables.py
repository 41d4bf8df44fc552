"""Tables on disk: one writer for all, and the tables of the cord."""

import csv
from dataclasses import fields

import numpy as np
import pytest

from sctseg7t.files import write_csv
from sctseg7t.measure import columns
from sctseg7t.measure.columns import Column
from sctseg7t.measure.csa import MEASURES, CsaRow, measure_csa
from sctseg7t.measure.sct_tables import write_sct_csv
from sctseg7t.measure.tables import write_csa_csv, write_level_csv

AFFINE = np.diag([0.5, 0.5, 3, 1])


def cord_stack(n_slices=4, lean=0.0, empty=()):
    i, j, k = np.meshgrid(np.arange(50), np.arange(50), np.arange(n_slices), indexing="ij")
    centre = 24.5 + lean * 3 / 0.5 * (k - (n_slices - 1) / 2)
    inside = ((i - centre) / 12) ** 2 + ((j - 24.5) / 8) ** 2
    cord, gm = (inside <= 1).astype(float), (inside <= 0.2).astype(float)
    cord[..., list(empty)] = gm[..., list(empty)] = 0
    return {"SC": cord, "GM": gm, "WM": cord - gm}


@pytest.fixture
def table():
    levels = np.broadcast_to([5, 5, 4, 4], (50, 50, 4))
    return measure_csa(cord_stack(lean=0.3, empty=[1]), AFFINE, levels=levels, flags=[["a", "b"], [], [], []])


def read(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_cells_and_an_unknown_column(tmp_path):
    row = {"a": 0.12345678, "b": 1234567.8, "c": -0.0, "d": float("nan"), "e": None, "f": ("x", "y"), "g": "p\nq, r"}
    kinds = [Column("a", digits=2), *"bcdefgh"]
    path = write_csv(tmp_path / "t.csv", kinds, [row, {"h": 7, "a": np.float32(0.5)}])
    assert path.read_bytes() == b'a,b,c,d,e,f,g,h\n0.12,1234567.8000,0.0000,,,x;y,"p q, r",\n0.50,,,,,,,7\n'
    write_csv(path, kinds, [row], digits=6)
    assert path.read_text().splitlines()[1].startswith("0.123457,1.23457e+06,0,")
    with pytest.raises(ValueError, match="no column z"):
        write_csv(tmp_path / "u.csv", ["a"], [{"a": 1}, {"a": 1, "z": 2}])
    assert list(tmp_path.iterdir()) == [path]


def test_every_column_says_what_it_is():
    for table in (*columns.COHORT_TABLES.values(), columns.CSA_COLUMNS, columns.LEVEL_COLUMNS, columns.LOAD_COLUMNS):
        found = columns.names(table)
        assert len(found) == len(set(found)) and all(column.description for column in table)
    own = {field.name for field in fields(CsaRow)}
    assert own == set(columns.names(columns.CSA_COLUMNS)) - {"filename", "volume", "corrected", "tool_version"}


def test_tidy_round_trip(table, tmp_path):
    write_csa_csv(table, tmp_path / "csa.csv", filename="sub-01_T2star.nii.gz", tool_version="1.2")
    records = read(tmp_path / "csa.csv")
    assert [(r["slice"], r["tissue"]) for r in records[:4]] == [("0", "SC"), ("0", "GM"), ("0", "WM"), ("1", "SC")]
    assert len(records) == len(table.rows) == 12
    for record, row in zip(records, table.rows, strict=True):
        for name in (*MEASURES, "z_mm", "length_mm"):
            value = getattr(row, name)
            if value is None:
                assert record[name] == ""
            else:
                assert float(record[name]) == pytest.approx(value, abs=1e-4)
        assert record["reason"] == ";".join(row.reason)
        assert record["level"] == str(row.level)
        assert (record["filename"], record["volume"]) == ("sub-01_T2star.nii.gz", "")
    assert records[0]["flags"] == "a;b"
    assert records[3]["reason"] == "empty"


def test_volumes_of_a_4d_image(tmp_path):
    tables = [measure_csa(cord_stack(), AFFINE), measure_csa(cord_stack(2), AFFINE)]
    write_csa_csv(tables, tmp_path / "csa.csv")
    assert [r["volume"] for r in read(tmp_path / "csa.csv")] == ["0"] * 12 + ["1"] * 6
    write_csa_csv(tables, tmp_path / "csa.csv", tissues=["SC"])
    assert [r["volume"] for r in read(tmp_path / "csa.csv")] == ["0"] * 4 + ["1"] * 2


def test_sct_columns_and_conventions(table, tmp_path):
    write_sct_csv(table, tmp_path / "seg.csv", "SC", filename="/data/sub-01_seg.nii.gz")
    records = read(tmp_path / "seg.csv")
    assert list(records[0]) == [
        *("Timestamp", "SCT Version", "Filename", "Slice (I->S)", "VertLevel", "DistancePMJ"),
        *("MEAN(area)", "STD(area)", "MEAN(angle_AP)", "STD(angle_AP)", "MEAN(angle_RL)", "STD(angle_RL)"),
        *("MEAN(diameter_AP)", "STD(diameter_AP)", "MEAN(diameter_RL)", "STD(diameter_RL)"),
        *("MEAN(eccentricity)", "STD(eccentricity)", "MEAN(orientation)", "STD(orientation)"),
        *("MEAN(solidity)", "STD(solidity)", "SUM(length)"),
    ]
    row, record = table.rows[0], records[0]
    assert float(record["MEAN(area)"]) == row.area_corrected_mm2
    # A lean to the right is a rotation about the A-P axis.
    assert row.angle_rl_deg == pytest.approx(np.degrees(np.arctan(0.3)), abs=1)
    assert float(record["MEAN(angle_AP)"]) == -row.angle_rl_deg
    assert float(record["MEAN(angle_RL)"]) == row.angle_ap_deg
    assert float(record["SUM(length)"]) == pytest.approx(3 * np.sqrt(1.09), rel=0.01)
    assert [r["Slice (I->S)"] for r in records] == list("0123") and [r["VertLevel"] for r in records] == list("5544")
    assert records[1]["MEAN(area)"] == records[1]["STD(area)"] == ""
    assert records[0]["SCT Version"].startswith("sctseg7t ")
    # Text is quoted, numbers are not, lines end as the csv module of Python ends them.
    lines = (tmp_path / "seg.csv").read_bytes().split(b"\r\n")
    assert lines[0].startswith(b"Timestamp,SCT Version,") and lines[-1] == b"" and len(lines) == 6
    stamp, *texts, area, spread = lines[1].split(b",")[:8]
    assert texts[1:] == [b'"/data/sub-01_seg.nii.gz"', b'"0"', b'"5"', b'""'] and spread == b"0.0"
    assert float(area) == row.area_corrected_mm2 and stamp[:1] == b'"'


def test_sct_levels_read_by_a_script_of_pandas(table, tmp_path):
    import pandas as pd

    for tissue in ("SC", "GM"):
        write_sct_csv(table, tmp_path / f"{tissue}.csv", tissue, filename=f"{tissue}.nii.gz", per="level")
        means = pd.read_csv(tmp_path / f"{tissue}.csv").groupby("VertLevel")["MEAN(area)"].mean()
        area = table.column(tissue, "area_corrected_mm2")
        # Slice 1, of level 5, is empty.
        assert means.to_dict() == pytest.approx({5: area[0], 4: area[2:].mean()})
    records = read(tmp_path / "SC.csv")
    assert [r["Slice (I->S)"] for r in records] == ["0", "2:3"] and [r["VertLevel"] for r in records] == ["5", "4"]
    area = table.column("SC", "area_corrected_mm2")
    assert float(records[1]["STD(area)"]) == pytest.approx(np.std(area[2:]))
    assert float(records[1]["SUM(length)"]) == pytest.approx(table.column("SC", "length_mm")[2:].sum())
    write_sct_csv(table, tmp_path / "all.csv", "SC", filename="x", per="all", levels=[4, 5])
    (whole,) = read(tmp_path / "all.csv")
    assert (whole["Slice (I->S)"], whole["VertLevel"]) == ("0;2:3", "4:5")
    assert float(whole["MEAN(area)"]) == pytest.approx(np.nanmean(area))
    write_sct_csv([table, table], tmp_path / "all.csv", "SC", filename="x", per="level")
    assert [r["Volume"] for r in read(tmp_path / "all.csv")] == ["0", "0", "1", "1"]


def test_level_table(table, tmp_path):
    write_level_csv(table, tmp_path / "gm.csv", tissues=["GM"])
    assert {r["tissue"] for r in read(tmp_path / "gm.csv")} == {"GM"}
    write_level_csv(table, tmp_path / "levels.csv", filename="t2s.nii.gz")
    records = read(tmp_path / "levels.csv")
    assert [(r["level"], r["tissue"]) for r in records[::3]] == [("4", "SC"), ("5", "SC"), ("all", "SC")]
    assert [(r["n_slices"], r["n_averaged"]) for r in records[::3]] == [("2", "2"), ("2", "1"), ("4", "3")]
    assert records[3]["area_mm2_sd"] == ""
    assert "single_value" in records[3]["reason"]
    areas = [row.area_mm2 for row in table.rows if row.tissue == "SC" and row.area_mm2]
    assert float(records[6]["area_mm2_mean"]) == pytest.approx(np.mean(areas), abs=1e-4)

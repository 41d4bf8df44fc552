"""Names of outputs, collisions between them, and writing all of them or none."""

import json
import os
import shlex
from pathlib import Path

import pytest

from sctseg7t import outputs
from sctseg7t.errors import OutputError, UsageError

ALL = {"SC": "_seg", "GM": "_gmseg", "WM": "_wmseg"}
ONE = {"GM": "_gmseg"}


@pytest.mark.parametrize(
    "name, parts",
    [
        ("a/t2s.nii.gz", ("t2s", ".nii.gz")),
        ("t2s.nii", ("t2s", ".nii")),
        ("T2S.NII.GZ", ("T2S", ".NII.GZ")),
        ("sub-01.run-2.nii.gz", ("sub-01.run-2", ".nii.gz")),
        ("scan", ("scan", "")),
        ("scan.v2", ("scan.v2", "")),
    ],
)
def test_split_name(name, parts):
    assert outputs.split_name(name) == parts


@pytest.mark.parametrize(
    "source, options, expected",
    [
        ("in/a.nii.gz", {}, "in/a_gmseg.nii.gz"),
        ("in/a.nii", {}, "in/a_gmseg.nii"),
        ("in/a.nii", {"folder": "out"}, "out/a_gmseg.nii"),
        ("a.nii.gz", {"output": "o/b.nii"}, "o/b.nii"),
        ("a.nii", {"output": "b"}, "b.nii"),
        ("a.nii.gz", {"output": "b.v2"}, "b.v2.nii.gz"),
        ("in/a.nii.gz", {"output": "s/b.nii.gz", "folder": "out"}, "out/s/b.nii.gz"),
        ("in/scan.v2", {}, "in/scan.v2_gmseg.nii.gz"),
    ],
)
def test_name_of_a_single_tissue(source, options, expected):
    assert outputs.plan(source, ONE, **options).masks["GM"] == Path(expected)


def test_names_of_several_tissues():
    plan = outputs.plan("in/a.nii.gz", ALL, output="o/b.nii.gz", tables=("csa", "levels"))
    assert [str(path) for path in plan.files()] == [
        "o/b_seg.nii.gz",
        "o/b_gmseg.nii.gz",
        "o/b_wmseg.nii.gz",
        "o/b_csa.csv",
        "o/b_csa_perlevel.csv",
        "o/b_deepseg.json",
    ]
    without = outputs.plan("in/a.nii.gz", ALL, tables=())
    assert without.tables == {}
    assert plan.within(Path("x")).files() == [Path("x") / path.name for path in plan.files()]


def test_conflicts_name_both_sides(tmp_path):
    plans = [outputs.plan(tmp_path / f / "x.nii.gz", ALL, folder=tmp_path / "out") for f in "ab"]
    plans.append(outputs.plan(tmp_path / "y.nii.gz", ALL, folder=tmp_path / "out"))
    problems = outputs.conflicts(plans)
    assert set(problems) == {plans[0].source, plans[1].source}
    assert str(plans[1].source) in problems[plans[0].source]


def test_conflict_through_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    plan = outputs.plan(tmp_path / "x.nii.gz", ONE, output=tmp_path / "link" / "y.nii.gz")
    assert outputs.conflicts([plan]) == {}
    assert set(outputs.conflicts([plan], [tmp_path / "real" / "y.nii.gz", None])) == {plan.source}


def test_output_option_names_one_file(tmp_path):
    outputs.check_single(1, "x", levels="l.nii.gz")
    outputs.check_single(2, None, levels=None)
    with pytest.raises(UsageError, match="-levels l.nii.gz: belongs to one scan"):
        outputs.check_single(2, None, levels="l.nii.gz")
    for output, count in (("x", 2), (str(tmp_path), 1), ("new/", 1)):
        with pytest.raises(UsageError, match="-ofolder"):
            outputs.check_single(count, output)


def test_folder_is_made_and_left_empty(tmp_path):
    plan = outputs.plan("x.nii.gz", ALL, folder=tmp_path / "a" / "b")
    outputs.check_folder(plan)
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_json_replaces_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    outputs.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        outputs.write_json(path, {"a": object()})

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="x.json.*disk is full"):
        outputs.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_failed_json_of_a_new_file_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="nowhere"):
        outputs.write_json(tmp_path / "nowhere" / "x.json", {})
    assert list(tmp_path.iterdir()) == []


def test_view_command_can_be_pasted():
    plan = outputs.plan("my scans/a.nii.gz", ALL)
    parts = shlex.split(outputs.view_command(plan))
    assert parts[:2] == ["fsleyes", "my scans/a.nii.gz"] and "my scans/a_seg.nii.gz" in parts
    assert "my scans/a_wmseg.nii.gz" not in parts

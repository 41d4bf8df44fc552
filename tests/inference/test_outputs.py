"""Names of outputs, and collisions between them."""

from pathlib import Path

import pytest

from sctseg7t.inference import outputs

ALL = {"SC": "_seg", "GM": "_gmseg", "WM": "_wmseg"}
ONE = {"GM": "_gmseg"}


def test_split_name():
    for name, parts in {
        "a/t2s.nii.gz": ("t2s", ".nii.gz"),
        "T2S.NII.GZ": ("T2S", ".NII.GZ"),
        "sub-01.run-2.nii": ("sub-01.run-2", ".nii"),
        "scan.v2": ("scan.v2", ""),
    }.items():
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
    others = {"levels": tmp_path / "real" / "y.nii.gz"}
    plan = outputs.plan(tmp_path / "x.nii.gz", ONE, output=tmp_path / "link" / "y.nii.gz", others=others)
    assert set(outputs.conflicts([plan])) == {plan.source} and plan.others == others


def test_interrupted_while_it_cleans_up(tmp_path, monkeypatch):
    plan = outputs.plan(tmp_path / "x.nii.gz", ONE, folder=tmp_path / "out", tables=())
    outputs.check_folder(plan)
    real, calls = outputs.tempfile.TemporaryDirectory.cleanup, []

    def interrupted(self):
        calls.append(self.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(outputs.tempfile.TemporaryDirectory, "cleanup", interrupted)
    with pytest.raises(KeyboardInterrupt):
        outputs.write(plan, lambda staged: staged.sidecar.write_text("{}"))
    monkeypatch.setattr(outputs.tempfile.TemporaryDirectory, "cleanup", real)
    assert calls and [path.name for path in (tmp_path / "out").iterdir()] == ["x_deepseg.json"]

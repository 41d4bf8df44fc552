"""sct7t and its doctor, and the example within reach."""

import json

import pytest
from sctseg7t.cli import COMMANDS, download, sct7t

from sctseg7t import doctor


@pytest.fixture
def findings(call):
    """Findings of ``sct7t doctor -json`` by what they are of, and the exit code."""

    def run():
        code, out, _ = call(sct7t.main, ["doctor", "-json"])
        return code, {row["what"]: row for row in json.loads(out)}

    return run


def test_lists_every_command(call):
    code, out, _ = call(sct7t.main, [])
    assert code == 0 and all(f"sct7t_{name} " in out for name in COMMANDS)


def test_a_sound_installation(findings):
    code, found = findings()
    assert code == 0 and "error" not in {row["state"] for row in found.values()}
    assert found["gm_sc, gm, sc"]["state"] == found["example"]["state"] == found["packages"]["state"] == "ok"
    assert {"sctseg7t", "Python", "CUDA", "model cache", "extra train"} <= set(found)


def test_what_must_be_mended_is_said(call, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SCT7T_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("SCT7T_MIRROR", str(tmp_path / "nowhere"))
    # No need to segment the example again.
    monkeypatch.setattr(doctor, "_example", lambda: iter(()))
    code, out, err = call(sct7t.main, ["doctor"])
    lines = [line for line in out.splitlines() if line.startswith("error")]
    assert code == 1 and "things must be mended" in err
    assert any("SCT7T_CACHE" in line for line in lines) and any("SCT7T_MIRROR" in line for line in lines)


def test_a_check_that_breaks_is_a_finding(findings, monkeypatch):
    def broken():
        yield doctor.Finding("first", "ok", "")
        raise RuntimeError("of something unforeseen")

    monkeypatch.setattr(doctor, "_example", broken)
    code, found = findings()
    assert code == 1 and found["first"]["state"] == "ok"
    assert found["broken"] == {"what": "broken", "state": "error", "text": "RuntimeError: of something unforeseen"}


def test_example_is_copied_and_nothing_else_is_replaced(call, root, tmp_path):
    folder = tmp_path / "example"
    code, out, err = call(download.main, ["example", "-o", str(folder)])
    names = {path.name for path in (root / "examples").iterdir() if path.suffix != ".py"}
    assert code == 0 and {path.name for path in folder.iterdir()} == names and "sct7t_deepseg -i" in err
    assert (folder / "t2s.nii.gz").read_bytes() == (root / "examples/t2s.nii.gz").read_bytes()
    assert call(download.main, ["example", "-o", str(folder)])[0] == 0
    (folder / "t2s.nii.gz").write_bytes(b"mine")
    code, _, err = call(download.main, ["example", "-o", str(folder)])
    assert code == 1 and "another file" in err and (folder / "t2s.nii.gz").read_bytes() == b"mine"

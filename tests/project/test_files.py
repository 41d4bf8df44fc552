"""Writing a file whole or not at all."""

import json
import os

import pytest

from sctseg7t import files
from sctseg7t.errors import OutputError


def test_json_replaces_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="x.json.*disk is full"):
        files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_failed_json_of_a_new_file_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="nowhere"):
        files.write_json(tmp_path / "nowhere" / "x.json", {})
    assert list(tmp_path.iterdir()) == []

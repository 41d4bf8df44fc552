"""Install, verify, prune and export, and the command that wraps them."""

import hashlib
import json
from pathlib import Path

import pytest
from sctseg7t.cli.download import main
from zoo_helpers import Answer, cache_files, file_entry, install, model_entry, write_manifest

from sctseg7t.errors import DownloadError, ModelError, OutputError
from sctseg7t.zoo.cache import cached_path
from sctseg7t.zoo.manage import export, prune, verify
from sctseg7t.zoo.manifest import load_manifest


@pytest.fixture
def command(call):
    """Run sct7t_download in this process: (exit code, stdout, stderr)."""
    return lambda *argv: call(main, [str(arg) for arg in argv])


def served(server, name, content, **fields):
    return file_entry(name, content, [server.script(name, Answer(content))], **fields)


@pytest.fixture
def manifest(server, cache, tmp_path, monkeypatch):
    """Two versions of a model that needs a locator, and a data set with folders."""
    finder = model_entry("finder", files=[served(server, "finder.onnx", b"finder")])
    centring = {"policy": "locator", "model": "finder"}
    old = model_entry(default=False, centring=centring, files=[served(server, "net-1.onnx", b"one")])
    new = model_entry(version="2.0.0", centring=centring, files=[served(server, "net-2.onnx", b"two")])
    scans = {
        "name": "scans",
        "description": "d",
        "licence": "CC0-1.0",
        "repository": "a/b",
        "commit": "0" * 40,
        "files": [
            served(server, "scan.nii.gz", b"scan", path="sub-01/anat/scan.nii.gz"),
            served(server, "LICENSE", b"CC0"),
        ],
    }
    path = write_manifest(tmp_path, old, new, finder, datasets=[scans])
    monkeypatch.setenv("SCT7T_MANIFEST", str(path))
    return load_manifest()


def names(paths):
    return [Path(path).name for path in paths]


def test_install_brings_the_locator_too(manifest):
    assert names(install("net")) == ["net-2.onnx", "finder.onnx"]
    assert names(install("net@1.0.0")) == ["net-1.onnx", "finder.onnx"]
    assert names(install("scans")) == ["scan.nii.gz", "LICENSE"]


def test_unknown_name_lists_models_and_data_sets(manifest):
    with pytest.raises(ModelError, match="net.*finder|finder.*net") as caught:
        install("nothing")
    assert "scans" in str(caught.value)
    with pytest.raises(ModelError, match="no version 9"):
        install("net@9.0.0")


def test_old_version_stays_while_the_new_one_fails(server, manifest, cache):
    install("net@1.0.0")
    server.script("net-2.onnx", Answer(b"not"))
    with pytest.raises(DownloadError):
        install("net")
    assert cached_path(manifest.model("net@1.0.0").files[0]).read_bytes() == b"one"
    assert prune(manifest) == []
    assert cached_path(manifest.model("net@1.0.0").files[0]).exists()


def test_verify_tells_ok_damaged_and_missing(manifest):
    install("net")
    assert [status for _, status, _ in verify("net")] == ["ok", "ok"]
    cached_path(manifest.model("net").files[0]).write_bytes(b"tw0")
    assert {row.file.name: row.status for row in verify()} == {
        "net-1.onnx": "missing",
        "net-2.onnx": "damaged",
        "finder.onnx": "ok",
        "scan.nii.gz": "missing",
        "LICENSE": "missing",
    }


def test_prune_keeps_what_current_versions_use(manifest, cache):
    for name in ("net@1.0.0", "net", "scans"):
        install(name)
    unknown = cache / "sha256" / hashlib.sha256(b"x").hexdigest()
    unknown.mkdir()
    (unknown / "old.onnx").write_bytes(b"x" * 10)
    left = cached_path(manifest.model("finder").files[0]).parent / ".part-1"
    left.mkdir()
    (left / "half.onnx").write_bytes(b"half")
    foreign = cache / "sha256" / "notes"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("keep")
    before = cache_files(cache)

    gone = {"net-1.onnx", "old.onnx", "half.onnx"}
    planned = prune(dry_run=True)
    assert cache_files(cache) == before
    assert prune() == planned
    assert sum(row.bytes for row in planned) == len(b"one") + 10 + len(b"half")
    assert set(names(before)) - set(names(cache_files(cache))) == gone
    assert prune() == []
    assert {row.status for row in verify("net")} == {"ok"}


def test_prune_leaves_a_running_download_alone(manifest, cache):
    import filelock

    part = cached_path(manifest.model("net").files[0]).parent / ".part-1"
    part.mkdir(parents=True)
    lock = cache / "locks" / f"{part.parent.name}.lock"
    lock.parent.mkdir()
    with filelock.FileLock(lock):
        assert prune() == []
        assert part.exists()
    assert names(row.path for row in prune()) == [part.name]


def test_exported_folder_serves_as_mirror(server, manifest, cache, tmp_path, monkeypatch):
    folder = tmp_path / "usb"
    written = export("net", folder) + export("scans", folder)
    assert {path.relative_to(folder).as_posix() for path in written} == {
        "net-2.onnx",
        "finder.onnx",
        "scans/sub-01/anat/scan.nii.gz",
        "scans/LICENSE",
        "models.json",
    }
    monkeypatch.setenv("SCT7T_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("SCT7T_MIRROR", str(folder))
    monkeypatch.setenv("SCT7T_MANIFEST", str(folder / "models.json"))
    asked = len(server.requests)
    found = install("net", offline=True) + install("scans", offline=True)
    assert all(path.is_relative_to(folder) for path in found)
    assert len(server.requests) == asked and not (tmp_path / "empty").exists()
    assert export("net", folder)[0].read_bytes() == b"two"


def test_export_into_a_place_that_is_no_folder(manifest, tmp_path):
    (tmp_path / "plain").write_text("a file")
    with pytest.raises(OutputError, match="cannot export"):
        export("net", tmp_path / "plain" / "usb")


def test_command_installs_verifies_and_prunes(command, manifest):
    code, out, _ = command("install", "net", "net@1.0.0")
    assert code == 0 and names(out.split()) == ["net-2.onnx", "finder.onnx", "net-1.onnx"]
    assert command("verify")[0] == 0
    old = cached_path(manifest.model("net@1.0.0").files[0])
    assert command("prune", "-dry-run")[0] == 0 and old.exists()
    assert command("prune")[0] == 0 and not old.exists()
    code, out, _ = command("verify", "net@1.0.0")
    assert code == 1 and "missing" in out
    cached_path(manifest.model("finder").files[0]).write_bytes(b"broken")
    code, out, err = command("verify")
    assert code == 1 and "damaged" in out and "1 of 2" in err


def test_command_goes_on_past_a_failure(command, server, manifest):
    server.script("net-2.onnx", Answer(status=404))
    code, out, err = command("install", "net", "scans")
    assert code == 1 and names(out.split()) == ["finder.onnx", "scan.nii.gz", "LICENSE"]
    assert "net-2.onnx" in err and "HTTP 404" in err


def test_command_offline(command, server, manifest):
    code, _, err = command("install", "finder", "--offline")
    assert code == 1 and "finder.onnx" in err and server.requests == []


@pytest.mark.parametrize(
    "argv", [["info", "x"], ["install", "x"], ["verify", "x"], ["export", "net", "x", "-o", "f"], ["fetch"], []]
)
def test_command_misused_is_exit_code_2(command, manifest, server, argv):
    code, _, err = command(*argv)
    assert code == 2 and err and server.requests == []


def test_command_list_info_and_export(command, manifest, tmp_path):
    command("install", "net")
    rows = json.loads(command("list", "-json")[1])
    assert {f"{row['name']} {row['version']}": row["status"] for row in rows} == {
        "net 1.0.0": "-",
        "net 2.0.0": "installed",
        "finder 1.0.0": "installed",
        "scans 0000000000": "-",
    }
    shown = json.loads(command("info", "net", "--json")[1])
    assert shown == manifest.model("net").raw and shown["version"] == "2.0.0"
    for name in ("net", "scans"):
        assert "licence" in command("info", name)[1]
    code, out, _ = command("export", "net", "scans", "-o", tmp_path / "usb")
    assert code == 0 and (tmp_path / "usb" / "net-2.onnx").read_bytes() == b"two" and "SCT7T_MIRROR" in out


@pytest.mark.data
@pytest.mark.parametrize(
    "name, folder",
    [("AMU7T", "template"), ("PAM50", "template"), ("gm-challenge", "cord")],
)
def test_pinned_hashes_are_those_of_the_data(data_dir, monkeypatch, name, folder):
    monkeypatch.setenv("SCT7T_MIRROR", str(data_dir / folder))
    rows = verify(name)
    assert rows and {row.status for row in rows} == {"ok"}

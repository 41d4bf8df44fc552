"""Downloads against a real HTTP server on loopback that cuts, stalls, lies and refuses."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from zoo_helpers import CONTENT, Answer, Server, cache_files, clean_cache, file_spec

from sctseg7t.errors import DownloadError
from sctseg7t.zoo import download
from sctseg7t.zoo.cache import cached_path
from sctseg7t.zoo.download import RETRIES, fetch
from sctseg7t.zoo.manifest import parse_file

HALF = len(CONTENT) // 2


@pytest.fixture
def server():
    with Server() as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    return clean_cache(tmp_path, monkeypatch)


def test_plain_download_is_cached_and_not_repeated(server, cache):
    file = file_spec(urls=[server.script("net", Answer())])
    path = fetch(file)
    assert path.read_bytes() == CONTENT
    assert path == cache / "sha256" / file.sha256 / "net.onnx"
    assert fetch(file) == path
    assert server.requests == ["/net"]
    assert cache_files(cache) == [f"sha256/{file.sha256}/net.onnx"]


@pytest.mark.parametrize("status", [200, 408, 429, 500, 502, 503, 504])
def test_temporary_failures_are_repeated(server, status):
    trouble = Answer(status=status, cut_at=HALF)
    assert fetch(file_spec(urls=[server.script("net", trouble, Answer())])).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_repeats_end(server):
    with pytest.raises(DownloadError, match="HTTP 503.*tried 3 times"):
        fetch(file_spec(urls=[server.script("net", Answer(status=503))]))
    assert len(server.requests) == RETRIES + 1 == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_refusals_are_not_repeated(server, status):
    file = file_spec(urls=[server.script("net", Answer(status=status))])
    with pytest.raises(DownloadError, match=f"HTTP {status}") as caught:
        fetch(file)
    assert len(server.requests) == 1
    text = str(caught.value)
    assert file.sha256 in text and "SCT7T_MIRROR" in text and "\n" not in text


@pytest.mark.parametrize("bad", [b"y" * len(CONTENT), CONTENT[:-1], CONTENT + b"z"], ids=["same size", "short", "long"])
@pytest.mark.parametrize("announce", [True, False])
def test_wrong_content_falls_to_the_next_address(server, cache, bad, announce):
    urls = [server.script("bad", Answer(bad, announce=announce)), server.script("good", Answer())]
    file = file_spec(urls=urls)
    assert fetch(file).read_bytes() == CONTENT
    assert server.requests == ["/bad", "/good"]
    assert cache_files(cache) == [f"sha256/{file.sha256}/net.onnx"]


def test_wrong_content_everywhere_leaves_nothing(server, cache):
    url = server.script("bad", Answer(b"y" * len(CONTENT)))
    with pytest.raises(DownloadError, match="not the file of the manifest"):
        fetch(file_spec(urls=[url]))
    assert len(server.requests) == 1
    assert cache_files(cache) == []


def test_silent_server_is_named_and_the_next_address_serves(server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(download, "RETRIES", 0)
    slow = server.script("slow", Answer(cut_at=HALF, stall_s=30))
    with pytest.raises(DownloadError, match="slow: timed out"):
        fetch(file_spec(urls=[slow]))
    assert fetch(file_spec(urls=[slow, server.script("good", Answer())])).read_bytes() == CONTENT


def test_nothing_listening(server):
    url = server.url("net")
    server.close()
    with pytest.raises(DownloadError, match="connection failed"):
        fetch(file_spec(urls=[url]))


def test_git_hash_without_size(server):
    content = b"git content " * 9000
    digest = hash_by_git(content)
    raw = {"name": "a.bin", "bytes": None, "git_blob_sha1": digest}
    bad, good = server.script("bad", Answer(content[:-1])), server.script("a", Answer(content))
    file = parse_file({**raw, "urls": [bad, good]}, Path("/"))
    assert fetch(file).read_bytes() == content
    assert server.requests == ["/bad", "/a"]
    assert cached_path(file).parts[-3:] == ("git_blob_sha1", digest, "a.bin")


def hash_by_git(content):
    try:
        done = subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("git, the reference for its own hash, is not installed")
    return done.stdout.decode().strip()


@pytest.mark.parametrize("kind", ["file", "path"])
def test_local_addresses(tmp_path, kind):
    source = tmp_path / "with space.bin"
    source.write_bytes(CONTENT)
    path = fetch(file_spec(urls=[source.as_uri() if kind == "file" else str(source)]))
    assert path.read_bytes() == CONTENT and path != source
    missing = tmp_path / "absent"
    with pytest.raises(DownloadError, match="No such file"):
        fetch(file_spec("other", b"1", urls=[str(missing)]))


def test_unknown_kind_of_address_is_passed_over(server):
    with pytest.raises(DownloadError, match="unknown kind of address 's3://'"):
        fetch(file_spec(urls=["s3://bucket/net"]))
    assert fetch(file_spec(urls=["s3://bucket/net", server.script("net", Answer())])).read_bytes() == CONTENT


def test_credentials_stay_out_of_messages(server):
    url = server.url("net").replace("//", "//user:secret@") + "?token=hidden"
    with pytest.raises(DownloadError) as caught:
        fetch(file_spec(urls=[url]))
    assert "secret" not in str(caught.value) and "hidden" not in str(caught.value)


FETCH = """
import sys
sys.path.insert(0, sys.argv[1])
from zoo_helpers import file_spec
from sctseg7t.zoo.download import fetch
print(fetch(file_spec(urls=[sys.argv[2]])))
"""


def start(url):
    """A process of its own that fetches the file."""
    command = [sys.executable, "-c", FETCH, str(Path(__file__).parents[1] / "helpers"), url]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)


def test_two_processes_download_once(server):
    url = server.script("net", Answer(stall_s=0.5))
    jobs = [start(url), start(url)]
    outputs = [job.communicate(timeout=60) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], outputs
    assert {out.decode().strip() for out, _ in outputs} == {str(cached_path(file_spec()))}
    assert server.requests == ["/net"]


def test_killed_process_leaves_no_file_and_a_lock_that_does_not_bind(server):
    url = server.script("net", Answer(cut_at=HALF, stall_s=30), Answer())
    job, file = start(url), file_spec(urls=[url])
    while job.poll() is None and not server.requests:
        time.sleep(0.02)
    job.kill()
    job.communicate()
    assert not cached_path(file).exists()
    assert fetch(file).read_bytes() == CONTENT


def test_cache_below_a_file_names_the_remedy(server, tmp_path):
    (tmp_path / "plain").write_text("not a folder")
    file = file_spec(urls=[server.script("net", Answer())])
    with pytest.raises(DownloadError, match="SCT7T_CACHE.*SCT7T_MIRROR"):
        fetch(file, cache=tmp_path / "plain" / "cache")
    assert server.requests == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_write_failures_name_the_folder_and_keep_no_debris(server, cache, monkeypatch, code):
    file = file_spec(urls=[server.script("net", Answer())])

    def fail(self, url, output_file, *args):
        Path(output_file).write_bytes(CONTENT[:10])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", fail)
    with pytest.raises(DownloadError, match="cannot write to the cache folder") as caught:
        fetch(file)
    assert str(cache) in str(caught.value) and os.strerror(code) in str(caught.value)
    assert cache_files(cache) == []


def test_failed_rename_publishes_nothing(server, cache, monkeypatch):
    file = file_spec(urls=[server.script("net", Answer())])

    def fail(*args):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(download.os, "replace", fail)
    with pytest.raises(DownloadError, match="Read-only"):
        fetch(file)
    assert cache_files(cache) == []


def test_read_only_cache_that_holds_the_file_is_enough(monkeypatch):
    file = file_spec()
    cached_path(file).parent.mkdir(parents=True)
    cached_path(file).write_bytes(CONTENT)
    monkeypatch.setattr(download, "locked_for", None)
    assert fetch(file) == cached_path(file)


def test_damaged_cache_is_replaced_only_by_a_verified_file(server, caplog):
    file = file_spec(urls=[server.script("net", Answer(status=404), Answer())])
    cached_path(file).parent.mkdir(parents=True)
    cached_path(file).write_bytes(b"damaged")
    with pytest.raises(DownloadError):
        fetch(file)
    assert cached_path(file).read_bytes() == b"damaged"
    assert fetch(file).read_bytes() == CONTENT
    assert "damaged" in caplog.text


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_says_which_file_goes_where(server, monkeypatch, tmp_path, how):
    file = file_spec(urls=[server.script("net", Answer())])
    if how == "environment":
        monkeypatch.setenv("SCT7T_OFFLINE", "1")
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    with pytest.raises(DownloadError) as caught:
        fetch(file, offline=how == "argument", mirror=mirror)
    text = str(caught.value)
    assert "net.onnx" in text and file.sha256 in text and str(mirror) in text
    with pytest.raises(DownloadError, match="SCT7T_MIRROR"):
        fetch(file, offline=how == "argument")
    assert server.requests == []
    (mirror / "net.onnx").write_bytes(CONTENT)
    assert fetch(file, offline=True, mirror=mirror) == mirror / "net.onnx"


@pytest.mark.parametrize("where", ["sub/dir/net.onnx", "net.onnx", "any/net.onnx"])
def test_mirror_is_used_first_and_in_place(server, cache, monkeypatch, tmp_path, where):
    file = file_spec(path="sub/dir/net.onnx", urls=[server.script("net", Answer())])
    placed = tmp_path / "mirror" / where
    placed.parent.mkdir(parents=True)
    placed.write_bytes(CONTENT)
    monkeypatch.setenv("SCT7T_MIRROR", str(tmp_path / "mirror"))
    assert fetch(file) == placed
    assert server.requests == [] and not cache.exists()


def test_mirror_that_is_absent_or_holds_another_file_is_named_and_passed_over(server, tmp_path, caplog):
    file = file_spec(urls=[server.script("net", Answer())])
    (tmp_path / "net.onnx").write_bytes(b"another release")
    assert fetch(file, mirror=tmp_path).read_bytes() == CONTENT
    assert str(tmp_path / "net.onnx") in caplog.text
    assert (tmp_path / "net.onnx").read_bytes() == b"another release"
    assert fetch(file, mirror=tmp_path / "absent").read_bytes() == CONTENT
    assert str(tmp_path / "absent") in caplog.text


def test_package_file_comes_before_everything(server, cache, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("sctseg7t.zoo.cache.PACKAGE_DIR", tmp_path)
    file = file_spec(urls=["package:weights/net.onnx", server.script("net", Answer())])
    shipped = tmp_path / "weights" / "net.onnx"
    shipped.parent.mkdir()
    shipped.write_bytes(CONTENT)
    assert fetch(file) == shipped and not cache.exists()
    shipped.write_bytes(b"broken installation")
    assert fetch(file) == cached_path(file)
    assert str(shipped) in caplog.text


def test_file_system_without_locks(server, cache, monkeypatch):
    import filelock

    def refuse(*args, **kwargs):
        raise NotImplementedError

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    file = file_spec(urls=[server.script("net", Answer())])
    assert fetch(file).read_bytes() == CONTENT
    assert cache_files(cache) == [f"sha256/{file.sha256}/net.onnx"]


def test_bar_only_where_asked_for_or_on_a_terminal(server, capsys):
    url = server.script("net", Answer())
    fetch(file_spec(urls=[url]))
    assert capsys.readouterr().err == ""
    cached_path(file_spec()).unlink()
    fetch(file_spec(urls=[url]), progress=True)
    assert "100%" in capsys.readouterr().err

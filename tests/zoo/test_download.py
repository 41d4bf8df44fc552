"""Downloads against a real HTTP server on loopback that cuts, stalls, lies and refuses."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from zoo_helpers import CONTENT, Answer, cache_files, file_spec

from sctseg7t.errors import DownloadError
from sctseg7t.zoo import download
from sctseg7t.zoo.cache import cached_path, find_local
from sctseg7t.zoo.download import fetch
from sctseg7t.zoo.manifest import parse_file

HALF = len(CONTENT) // 2


def test_plain_download_is_cached_and_not_repeated(server, cache):
    file = file_spec(urls=[server.script("net", Answer())])
    path = fetch(file)
    assert path.read_bytes() == CONTENT
    assert path == cache / "sha256" / file.digest / "net.onnx"
    assert fetch(file) == path
    assert server.requests == ["/net"]
    assert cache_files(cache) == [f"sha256/{file.digest}/net.onnx"]


@pytest.mark.parametrize("status", [200, 429, 503])
def test_temporary_failures_are_repeated(server, status):
    trouble = Answer(status=status, cut_at=HALF)
    assert fetch(file_spec(urls=[server.script("net", trouble, Answer())])).read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "answer, requests, words",
    [
        (Answer(status=503), 3, "HTTP 503 .tried 3 times"),
        (Answer(status=404), 1, "HTTP 404"),
        (Answer(b"y" * len(CONTENT)), 1, "not the file of the manifest"),
    ],
)
def test_failure_says_why_and_what_to_do_and_leaves_nothing(server, cache, answer, requests, words):
    file = file_spec(urls=[server.script("net", answer)])
    with pytest.raises(DownloadError, match=words) as caught:
        fetch(file)
    assert len(server.requests) == requests and cache_files(cache) == []
    text = str(caught.value)
    assert file.digest in text and "SCT7T_MIRROR" in text and "\n" not in text


@pytest.mark.parametrize("bad", [b"y" * len(CONTENT), CONTENT[:-1], CONTENT + b"z"], ids=["same size", "short", "long"])
def test_wrong_content_falls_to_the_next_address(server, cache, bad):
    urls = [server.script("bad", Answer(bad)), server.script("good", Answer())]
    file = file_spec(urls=urls)
    assert fetch(file).read_bytes() == CONTENT
    assert server.requests == ["/bad", "/good"]
    assert cache_files(cache) == [f"sha256/{file.digest}/net.onnx"]


def test_silent_or_absent_server_is_named_and_the_next_address_serves(server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(download, "RETRIES", 0)
    slow, good = server.script("slow", Answer(cut_at=HALF, stall_s=30)), server.script("good", Answer())
    with pytest.raises(DownloadError, match="slow: timed out.*net: connection failed"):
        fetch(file_spec(urls=[slow, "http://127.0.0.1:9/net"]))
    assert fetch(file_spec(urls=[slow, good])).read_bytes() == CONTENT


def test_git_hash_without_size(server):
    content = b"git content " * 9000
    done = subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True)
    digest = done.stdout.decode().strip()
    raw = {"name": "a.bin", "bytes": None, "git_blob_sha1": digest}
    bad, good = server.script("bad", Answer(content[:-1])), server.script("a", Answer(content))
    file = parse_file({**raw, "urls": [bad, good]}, Path("/"))
    assert fetch(file).read_bytes() == content
    assert server.requests == ["/bad", "/a"]
    assert cached_path(file).parts[-3:] == ("git_blob_sha1", digest, "a.bin")


@pytest.mark.parametrize("kind", ["file", "path"])
def test_local_addresses(tmp_path, kind):
    source = tmp_path / "with space.bin"
    source.write_bytes(CONTENT)
    path = fetch(file_spec(urls=[source.as_uri() if kind == "file" else str(source)]))
    assert path.read_bytes() == CONTENT and path != source
    missing = tmp_path / "absent"
    with pytest.raises(DownloadError, match="No such file"):
        fetch(file_spec("other", b"1", urls=[str(missing)]))


def test_unknown_kind_of_address_is_passed_over_and_credentials_stay_out_of_messages(server):
    url = server.url("net").replace("//", "//user:secret@") + "?token=hidden"
    with pytest.raises(DownloadError, match="unknown kind of address 's3://'.*HTTP 404") as caught:
        fetch(file_spec(urls=["s3://bucket/net", url]))
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


def test_cache_that_cannot_be_made_or_is_full_is_named_and_keeps_no_debris(server, cache, monkeypatch, tmp_path):
    file = file_spec(urls=[server.script("net", Answer())])

    def fail(self, url, output_file, *args):
        Path(output_file).write_bytes(CONTENT[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pooch.HTTPDownloader.__call__", fail)
        with pytest.raises(DownloadError, match=f"{cache}: cannot write to the cache folder .No space left"):
            fetch(file)
    assert cache_files(cache) == []
    (tmp_path / "plain").write_text("not a folder")
    monkeypatch.setenv("SCT7T_CACHE", str(tmp_path / "plain" / "cache"))
    with pytest.raises(DownloadError, match="SCT7T_CACHE.*SCT7T_MIRROR"):
        fetch(file)
    assert server.requests == []


def test_read_only_cache_that_holds_the_file_is_enough(monkeypatch):
    file = file_spec()
    cached_path(file).parent.mkdir(parents=True)
    cached_path(file).write_bytes(CONTENT)
    monkeypatch.setattr(download, "writing_to_cache", None)
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
    with pytest.raises(DownloadError, match=f"{file.digest}.*SCT7T_MIRROR"):
        fetch(file, offline=how == "argument")
    monkeypatch.setenv("SCT7T_MIRROR", str(tmp_path))
    with pytest.raises(DownloadError, match=f"net.onnx.*{file.digest}.*into {tmp_path}"):
        fetch(file, offline=how == "argument")
    (tmp_path / "net.onnx").write_bytes(CONTENT)
    assert fetch(file, offline=how == "argument") == tmp_path / "net.onnx"
    assert server.requests == []


@pytest.mark.parametrize("where", ["sub/dir/net.onnx", "net.onnx", "any/net.onnx"])
def test_mirror_is_used_first_and_in_place(server, cache, monkeypatch, tmp_path, where):
    file = file_spec(path="sub/dir/net.onnx", urls=[server.script("net", Answer())])
    placed = tmp_path / "mirror" / where
    placed.parent.mkdir(parents=True)
    placed.write_bytes(CONTENT)
    monkeypatch.setenv("SCT7T_MIRROR", str(tmp_path / "mirror"))
    assert fetch(file) == placed
    assert server.requests == [] and not cache.exists()


def test_mirror_that_is_absent_or_holds_another_file_is_named_and_passed_over(server, tmp_path, monkeypatch, caplog):
    file = file_spec(urls=[server.script("net", Answer())])
    (tmp_path / "net.onnx").write_bytes(b"another release")
    for mirror, named in ((tmp_path, tmp_path / "net.onnx"), (tmp_path / "absent", tmp_path / "absent")):
        monkeypatch.setenv("SCT7T_MIRROR", str(mirror))
        assert fetch(file).read_bytes() == CONTENT
        assert str(named) in caplog.text
    assert (tmp_path / "net.onnx").read_bytes() == b"another release"


def test_a_mirror_that_is_absent_is_said_once(cache, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SCT7T_MIRROR", str(tmp_path / "nowhere"))
    for _ in range(3):
        assert find_local(file_spec(urls=["https://nowhere.invalid/net.onnx"])) is None
    assert caplog.text.count("nowhere: the mirror folder") == 1


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
    assert cache_files(cache) == [f"sha256/{file.digest}/net.onnx"]


def test_bar_on_a_terminal_only(server, capsys, monkeypatch):
    url = server.script("net", Answer())
    fetch(file_spec(urls=[url]))
    assert capsys.readouterr().err == ""
    cached_path(file_spec()).unlink()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch(file_spec(urls=[url]))
    assert "100%" in capsys.readouterr().err

"""Downloads against a real HTTP server on loopback that cuts, stalls, lies and refuses."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from zoo_helpers import CONTENT, FAST, Answer, Server, cache_files, clean_cache, file_spec

from sctseg7t.errors import DownloadError
from sctseg7t.zoo import download, transfer
from sctseg7t.zoo.cache import cached_path
from sctseg7t.zoo.download import fetch
from sctseg7t.zoo.manifest import parse_file

# A cut is noticed, and what came before it kept, in units of the read size.
CHUNK = transfer._CHUNK
HALF = len(CONTENT) // 2 // CHUNK * CHUNK


@pytest.fixture
def server():
    with Server() as running:
        yield running


@pytest.fixture
def cache(tmp_path, monkeypatch):
    return clean_cache(tmp_path, monkeypatch)


def get(file, **options):
    return fetch(file, policy=options.pop("policy", FAST), progress=False, **options)


def test_plain_download_is_cached_and_not_repeated(server, cache):
    file = file_spec(urls=[server.script("net", Answer())])
    path = get(file)
    assert path.read_bytes() == CONTENT
    assert path == cache / "sha256" / file.sha256 / "net.onnx"
    assert get(file) == path
    assert len(server.requests) == 1
    assert cache_files(cache) == [f"sha256/{file.sha256}/net.onnx"]


def test_cut_download_resumes_where_it_stopped(server, cache):
    file = file_spec(urls=[server.script("net", Answer(cut_at=HALF), Answer())])
    assert get(file).read_bytes() == CONTENT
    assert server.ranges("net") == [None, f"bytes={HALF}-"]
    assert server.sent["/net"] == len(CONTENT)


def test_progress_lets_a_bad_line_through_however_often_it_is_cut(server, cache):
    cuts = [Answer(cut_at=stop) for stop in range(3 * CHUNK, len(CONTENT), 3 * CHUNK)]
    file = file_spec(urls=[server.script("net", *cuts, Answer())])
    assert get(file, policy=replace(FAST, progress_bytes=CHUNK)).read_bytes() == CONTENT
    assert server.sent["/net"] == len(CONTENT)
    assert len(server.requests) == len(cuts) + 1 > FAST.attempts


def test_server_that_ignores_ranges_restarts_from_the_beginning(server, cache):
    url = server.script("net", Answer(cut_at=HALF), Answer(ranges=False))
    assert get(file_spec(urls=[url])).read_bytes() == CONTENT
    assert server.ranges("net")[1] == f"bytes={HALF}-"
    assert server.sent["/net"] == HALF + len(CONTENT)


def test_wrong_content_range_is_not_appended(server, cache):
    lie = Answer(status=206, headers={"Content-Range": "bytes 7-9/10"}, body=b"abc", ranges=False)
    url = server.script("net", Answer(cut_at=HALF), lie, Answer())
    assert get(file_spec(urls=[url])).read_bytes() == CONTENT
    assert server.ranges("net") == [None, f"bytes={HALF}-", None]


@pytest.mark.parametrize("left_over", [CONTENT[:HALF], b"x" * HALF, CONTENT + b"more"])
def test_partial_file_of_a_killed_process(server, cache, left_over):
    file = file_spec(urls=[server.script("net", Answer())])
    part = Path(f"{cached_path(file)}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(left_over)
    assert get(file).read_bytes() == CONTENT
    assert not part.exists()
    resumed = f"bytes={HALF}-"
    expected = {
        CONTENT[:HALF]: [resumed],
        b"x" * HALF: [resumed, None],
        CONTENT + b"more": [None],
    }
    assert server.ranges("net") == expected[left_over]


def test_complete_partial_file_needs_no_request(server, cache):
    file = file_spec(urls=[server.script("net", Answer())])
    part = Path(f"{cached_path(file)}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    assert get(file).read_bytes() == CONTENT
    assert server.requests == []


@pytest.mark.parametrize("bad", [b"y" * len(CONTENT), CONTENT[:-1], CONTENT + b"z"], ids=["same size", "short", "long"])
@pytest.mark.parametrize("announce", [True, False])
def test_wrong_content_falls_to_the_next_mirror(server, cache, bad, announce):
    urls = [server.script("bad", Answer(bad, announce=announce)), server.script("good", Answer())]
    file = file_spec(urls=urls)
    assert get(file).read_bytes() == CONTENT
    assert cache_files(cache) == [f"sha256/{file.sha256}/net.onnx"]


def test_wrong_content_everywhere_leaves_nothing(server, cache):
    url = server.script("bad", Answer(b"y" * len(CONTENT)))
    with pytest.raises(DownloadError, match="not the file of the manifest"):
        get(file_spec(urls=[url]))
    assert len(server.requests) == 1
    assert cache_files(cache) == []


def test_endless_answer_is_cut_off(server, cache):
    url = server.script("net", Answer(CONTENT * 40, announce=False))
    with pytest.raises(DownloadError, match="more than"):
        get(file_spec(urls=[url]))
    assert cache_files(cache) == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_refusals_are_not_repeated(server, cache, status):
    file = file_spec(urls=[server.script("net", Answer(status=status))])
    with pytest.raises(DownloadError, match=f"HTTP {status}") as caught:
        get(file)
    assert len(server.requests) == 1
    text = str(caught.value)
    assert file.sha256 in text and "SCT7T_MIRROR" in text and "\n" not in text


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_temporary_failures_are_repeated(server, cache, status):
    url = server.script("net", Answer(status=status), Answer())
    assert get(file_spec(urls=[url])).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_repeats_end(server, cache):
    with pytest.raises(DownloadError, match="HTTP 503.*tried 3 times"):
        get(file_spec(urls=[server.script("net", Answer(status=503))]))
    assert len(server.requests) == FAST.attempts


def test_retry_after_is_waited_for_within_the_cap(server, cache, monkeypatch):
    waits = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    soon = Answer(status=429, headers={"Retry-After": "7"})
    assert get(file_spec(urls=[server.script("net", soon, Answer())]))
    assert waits == [7.0]
    late = Answer(status=429, headers={"Retry-After": "7200"})
    file = file_spec("other", CONTENT[1:], urls=[server.script("late", late)])
    with pytest.raises(DownloadError, match="7200 s"):
        get(file)
    assert waits == [7.0]


def test_waits_grow_with_jitter_up_to_the_cap(monkeypatch):
    waits = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    policy = transfer.RetryPolicy(attempts=9, base_s=1.0, cap_s=8.0)
    for failures in range(1, 7):
        transfer._wait_or_give_up(transfer._Transient("x"), failures, policy, "u")
    for wait, top in zip(waits, [1, 2, 4, 8, 8, 8], strict=True):
        assert top / 2 <= wait <= top
    assert len(set(waits)) == len(waits)


def test_silent_server_times_out_and_the_next_mirror_serves(server, cache):
    slow = server.script("slow", Answer(cut_at=CHUNK, stall_s=30))
    good = server.script("good", Answer())
    policy = replace(FAST, attempts=1, read_s=1.0)
    assert get(file_spec(urls=[slow, good]), policy=policy).read_bytes() == CONTENT
    assert server.ranges("good") == [f"bytes={CHUNK}-"]


def test_silent_server_is_named_when_there_is_no_other(server, cache):
    slow = server.script("slow", Answer(cut_at=CHUNK, stall_s=30))
    with pytest.raises(DownloadError, match="slow: timed out"):
        get(file_spec(urls=[slow]), policy=replace(FAST, attempts=1, read_s=0.2))


def test_nothing_listening(server, cache):
    url = server.url("net")
    server.close()
    with pytest.raises(DownloadError, match="connection failed"):
        get(file_spec(urls=[url]))


def test_git_hash_without_size_resumes_too(server, cache):
    content = b"git content " * 9000
    digest = hash_by_git(content)
    url = server.script("a", Answer(content, cut_at=CHUNK), Answer(content))
    raw = {"name": "a.bin", "bytes": None, "git_blob_sha1": digest, "urls": [url]}
    file = parse_file(raw, Path("/"))
    assert get(file).read_bytes() == content
    assert server.ranges("a") == [None, f"bytes={CHUNK}-"]
    assert cached_path(file).parts[-3:] == ("git_blob_sha1", digest, "a.bin")


def hash_by_git(content):
    try:
        done = subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("git, the reference for its own hash, is not installed")
    return done.stdout.decode().strip()


@pytest.mark.parametrize("kind", ["file", "path"])
def test_local_addresses(cache, tmp_path, kind):
    source = tmp_path / "with space.bin"
    source.write_bytes(CONTENT)
    path = get(file_spec(urls=[source.as_uri() if kind == "file" else str(source)]))
    assert path.read_bytes() == CONTENT and path != source
    missing = tmp_path / "absent"
    with pytest.raises(DownloadError, match="No such file"):
        get(file_spec("other", b"1", urls=[str(missing)]))


def test_credentials_stay_out_of_messages(cache, server):
    url = server.url("net").replace("//", "//user:secret@") + "?token=hidden"
    with pytest.raises(DownloadError) as caught:
        get(file_spec(urls=[url]))
    assert "secret" not in str(caught.value) and "hidden" not in str(caught.value)


TWO_PROCESSES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from zoo_helpers import file_spec
from sctseg7t.zoo.download import fetch
from sctseg7t.zoo.manifest import parse_file
print(fetch(file_spec(urls=[sys.argv[2]]), progress=False))
"""


def test_two_processes_download_once(server, cache):
    url = server.script("net", Answer(stall_s=0.5, announce=True))
    command = [sys.executable, "-c", TWO_PROCESSES, str(Path(__file__).parents[1] / "helpers"), url]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) for _ in range(2)]
    outputs = [job.communicate(timeout=60) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], outputs
    assert {out.decode().strip() for out, _ in outputs} == {str(cached_path(file_spec()))}
    assert len(server.requests) == 1
    assert server.sent["/net"] == len(CONTENT)


def test_killed_process_leaves_only_a_part_and_a_lock_that_does_not_bind(server, cache):
    url = server.script("net", Answer(cut_at=HALF, stall_s=30), Answer())
    command = [sys.executable, "-c", TWO_PROCESSES, str(Path(__file__).parents[1] / "helpers"), url]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    file = file_spec(urls=[url])
    part = Path(f"{cached_path(file)}.part")
    while job.poll() is None and not (part.exists() and part.stat().st_size):
        transfer.time.sleep(0.02)
    job.kill()
    job.communicate()
    assert 0 < part.stat().st_size < len(CONTENT)
    assert not cached_path(file).exists()
    kept = part.stat().st_size
    assert get(file).read_bytes() == CONTENT
    assert server.ranges("net") == [None, f"bytes={kept}-"]


def test_cache_below_a_file_names_the_remedy(server, tmp_path, cache):
    (tmp_path / "plain").write_text("not a folder")
    file = file_spec(urls=[server.script("net", Answer())])
    with pytest.raises(DownloadError, match="SCT7T_CACHE.*SCT7T_MIRROR"):
        get(file, cache=tmp_path / "plain" / "cache")
    assert server.requests == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_write_failures_name_the_folder_and_keep_no_debris(server, cache, monkeypatch, code):
    file = file_spec(urls=[server.script("net", Answer())])

    def fail(url, part, *args, **kwargs):
        part.write_bytes(CONTENT[:10])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(download, "transfer", fail)
    with pytest.raises(DownloadError, match="cannot write to the cache folder") as caught:
        get(file)
    assert str(cache) in str(caught.value) and os.strerror(code) in str(caught.value)
    assert not cached_path(file).exists()
    if code == errno.ENOSPC:
        assert cache_files(cache) == []


def test_failed_rename_publishes_nothing(server, cache, monkeypatch):
    file = file_spec(urls=[server.script("net", Answer())])

    def fail(*args):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(download.os, "replace", fail)
    with pytest.raises(DownloadError, match="Read-only"):
        get(file)
    assert not cached_path(file).exists()


def test_read_only_cache_that_holds_the_file_is_enough(cache, monkeypatch):
    file = file_spec()
    cached_path(file).parent.mkdir(parents=True)
    cached_path(file).write_bytes(CONTENT)
    monkeypatch.setattr(download, "locked_for", None)
    assert get(file) == cached_path(file)


def test_damaged_cache_is_replaced_only_by_a_verified_file(server, cache, caplog):
    file = file_spec(urls=[server.script("net", Answer(status=404), Answer())])
    cached_path(file).parent.mkdir(parents=True)
    cached_path(file).write_bytes(b"damaged")
    with pytest.raises(DownloadError):
        get(file)
    assert cached_path(file).read_bytes() == b"damaged"
    assert get(file).read_bytes() == CONTENT
    assert "damaged" in caplog.text


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_says_which_file_goes_where(server, cache, monkeypatch, tmp_path, how):
    file = file_spec(urls=[server.script("net", Answer())])
    if how == "environment":
        monkeypatch.setenv("SCT7T_OFFLINE", "1")
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    with pytest.raises(DownloadError) as caught:
        get(file, offline=how == "argument", mirror=mirror)
    text = str(caught.value)
    assert "net.onnx" in text and file.sha256 in text and str(mirror) in text
    with pytest.raises(DownloadError, match="SCT7T_MIRROR"):
        get(file, offline=how == "argument")
    assert server.requests == []
    (mirror / "net.onnx").write_bytes(CONTENT)
    assert get(file, offline=True, mirror=mirror) == mirror / "net.onnx"


@pytest.mark.parametrize("where", ["sub/dir/net.onnx", "net.onnx", "any/net.onnx"])
def test_mirror_is_used_first_and_in_place(server, cache, monkeypatch, tmp_path, where):
    file = file_spec(path="sub/dir/net.onnx", urls=[server.script("net", Answer())])
    placed = tmp_path / "mirror" / where
    placed.parent.mkdir(parents=True)
    placed.write_bytes(CONTENT)
    monkeypatch.setenv("SCT7T_MIRROR", str(tmp_path / "mirror"))
    assert get(file) == placed
    assert server.requests == [] and not cache.exists()


def test_wrong_file_in_the_mirror_is_named_and_passed_over(server, cache, tmp_path, caplog):
    file = file_spec(urls=[server.script("net", Answer())])
    (tmp_path / "net.onnx").write_bytes(b"another release")
    assert get(file, mirror=tmp_path).read_bytes() == CONTENT
    assert str(tmp_path / "net.onnx") in caplog.text
    assert (tmp_path / "net.onnx").read_bytes() == b"another release"


def test_absent_mirror_is_named(server, cache, tmp_path, caplog):
    file = file_spec(urls=[server.script("net", Answer())])
    assert get(file, mirror=tmp_path / "absent").read_bytes() == CONTENT
    assert str(tmp_path / "absent") in caplog.text


def test_package_file_comes_before_everything(server, cache, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("sctseg7t.zoo.cache.PACKAGE_DIR", tmp_path)
    file = file_spec(urls=["package:weights/net.onnx", server.script("net", Answer())])
    shipped = tmp_path / "weights" / "net.onnx"
    shipped.parent.mkdir()
    shipped.write_bytes(CONTENT)
    assert get(file) == shipped and not cache.exists()
    shipped.write_bytes(b"broken installation")
    assert get(file) == cached_path(file)
    assert str(shipped) in caplog.text


def test_file_system_without_locks(server, cache, monkeypatch):
    import filelock

    def refuse(*args, **kwargs):
        raise NotImplementedError

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    file = file_spec(urls=[server.script("net", Answer())])
    assert get(file).read_bytes() == CONTENT
    assert cache_files(cache) == [f"sha256/{file.sha256}/net.onnx"]


def test_progress_is_told_in_bytes(server, cache):
    told = []
    file = file_spec(urls=[server.script("net", Answer(cut_at=HALF), Answer())])
    fetch(file, policy=FAST, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_no_bar_where_stderr_is_no_terminal(server, cache, capsys):
    fetch(file_spec(urls=[server.script("net", Answer())]), policy=FAST)
    assert capsys.readouterr().err == ""

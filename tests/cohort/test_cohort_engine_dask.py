"""The engine of many machines, on a real scheduler with real workers on loopback, some of them killed."""

import os
import signal

import pytest
from batch_helpers import fifo, make_bids, masks, record, start, wait_for, worker_of
from dask_cluster import cluster

pytest.importorskip("distributed", reason="needs the extra dask")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and named pipes are other things on Windows")


def test_a_worker_is_lost_a_scan_hangs_and_all_others_are_the_same_bits(small, tmp_path):
    subjects = ["01", "02", "03", "04", "05", "06"]
    bids = make_bids(tmp_path / "bids", small, subjects)
    local = start("-i", bids, "-o", tmp_path / "local", "-workers", "1")
    fifo_made = local.communicate(timeout=300)
    assert local.returncode == 0, fifo_made
    fifo(bids, "00hang")
    out = tmp_path / "out"
    with cluster(tmp_path / "dask", 2) as address:
        process = start("-i", bids, "-o", out, "-engine", "dask", "-scheduler", address, "-timeout", "8")
        os.kill(wait_for(lambda: worker_of(out, "00hang")), signal.SIGKILL)
        said, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "6 done, 0 up to date, 1 failed" in said, said + err
    assert record(out, "00hang")["error_kind"] == "timeout"
    assert masks(out) == masks(tmp_path / "local")


def test_a_scan_that_kills_its_workers_is_failed(small, tmp_path):
    bids = make_bids(tmp_path / "bids", small, ["01", "02"])
    fifo(bids, "00kill")
    out = tmp_path / "out"
    # The first death counts, so that one is enough.
    with cluster(tmp_path / "dask", 2, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as address:
        process = start("-i", bids, "-o", out, "-engine", "dask", "-scheduler", address)
        os.kill(wait_for(lambda: worker_of(out, "00kill")), signal.SIGKILL)
        said, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "2 done, 0 up to date, 1 failed" in said
    assert record(out, "00kill")["error_kind"] == "killed"


def test_interrupted(small, tmp_path):
    bids = make_bids(tmp_path / "bids", small, ["01"])
    fifo(bids, "02stuck")
    out = tmp_path / "out"
    with cluster(tmp_path / "dask", 1) as address:
        process = start("-i", bids, "-o", out, "-engine", "dask", "-scheduler", address)
        wait_for(lambda: worker_of(out, "02stuck"))
        process.send_signal(signal.SIGINT)
        wait_for(lambda: "once more" in process.stderr.readline())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err
    assert record(out, "01")["status"] == "ok"


def test_no_scheduler(small, tmp_path, monkeypatch, capsys):
    from sctseg7t.cli.batch import main

    from sctseg7t.cohort import engine_dask as module

    monkeypatch.setattr(module, "_CONNECT", 1)
    bids = make_bids(tmp_path / "bids", small, ["01"])
    line = ["-i", str(bids), "-o", str(tmp_path / "out"), "-engine", "dask", "-scheduler", "tcp://127.0.0.1:9"]
    assert main(line) == 2
    assert "no scheduler answers" in capsys.readouterr().err.splitlines()[-1]

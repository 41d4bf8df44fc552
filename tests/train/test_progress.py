"""What a training tells while it runs, and how it is asked to stop."""

import os
import signal

import pytest
from train_helpers import RECIPE, Log

from sctseg7t.train import progress
from sctseg7t.train.loop import train


class Terminal(Log):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_speed_and_time_left_after_a_resume(clock):
    log = Log()
    told = progress.Progress(log, total=1000, first=400, batch=16)
    clock[0] += 50
    told.report(500, 0.25)
    # 100 steps of 16 images in 50 s; 500 steps remain.
    assert log.text.startswith("step 500/1000  loss 0.2500  32 images/s  0:04:10 left")
    clock[0] += 100
    told.report(600, 0.25)
    # Speed is that of the last stretch, the time left that of the whole sitting.
    assert "16 images/s  0:05:00 left" in log.text


def test_in_place_on_a_terminal(clock):
    log = Terminal()
    told = progress.Progress(log, 100, 0, 2)
    for step in (1, 2):
        clock[0] += 1
        told.report(step, 0.5)
    assert "\n" not in log.text and log.text.count("\r") == 2
    told.say("a line")
    assert log.text.endswith("\ra line\n")


def test_plain_lines_every_so_many_steps(tmp_path):
    log = Log()
    train(RECIPE, {}, tmp_path, report_every=2, log=log)
    told = [line.split()[1] for line in log.text.splitlines() if "images/s" in line]
    assert told == ["2/6", "4/6", "6/6"] and "\r" not in log.text


def test_duration():
    assert [progress.duration(seconds) for seconds in (0, 59.6, 36061)] == ["0:00:00", "0:01:00", "10:01:01"]


def test_second_request_breaks_off_at_once():
    with pytest.raises(KeyboardInterrupt), progress.stop_requests() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked == [signal.SIGINT]
        os.kill(os.getpid(), signal.SIGINT)


def test_job_that_ignores_interrupts_goes_on_ignoring():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with progress.stop_requests() as asked:
            os.kill(os.getpid(), signal.SIGINT)
        assert asked == []
    finally:
        signal.signal(signal.SIGINT, before)

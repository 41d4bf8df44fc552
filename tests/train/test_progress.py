"""What a training tells while it runs, and how it is asked to stop."""

import os
import signal

import pytest
from train_helpers import Log

from sctseg7t.train.progress import Progress, stop_requests


class Terminal(Log):
    def isatty(self):
        return True


@pytest.mark.parametrize("log", [Log(), Terminal()], ids=["file", "terminal"])
def test_a_bar_on_a_terminal_and_lines_elsewhere(log):
    progress = Progress(log, total=100, first=10)
    progress.bar.update(5)
    progress.report(0.25)
    progress.say("a line")
    progress.bar.close()
    assert "15/100" in log.text and "loss 0.2500" in log.text and "a line\n" in log.text
    assert ("\r" in log.text) == isinstance(log, Terminal)


def test_second_request_breaks_off_at_once():
    with pytest.raises(KeyboardInterrupt), stop_requests() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked == [signal.SIGINT]
        os.kill(os.getpid(), signal.SIGINT)


def test_job_that_ignores_interrupts_goes_on_ignoring():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_requests() as asked:
            os.kill(os.getpid(), signal.SIGINT)
        assert asked == []
    finally:
        signal.signal(signal.SIGINT, before)

"""Progress lines of a training, and requests to stop it."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO


class Stopped(KeyboardInterrupt):
    """A training stopped by a signal after its state was saved.

    Attributes
    ----------
    number : int
        The signal's.
    """

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM (what a cluster sends at the time limit) in a list instead of breaking off.

    A step that is cut short would leave half-updated weights. The second request breaks off at once.
    """
    asked = []

    def ask(number, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            # A job in the background of a script ignores Ctrl-C, and goes on doing so.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                previous[number] = signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@dataclass
class Progress:
    """Progress of a sitting: in place on a terminal, else a line every ``every`` steps.

    Attributes
    ----------
    log : text stream
    total, first : int
        Steps of the recipe, and the step that this sitting began at.
    batch : int
        Images per step.
    """

    log: TextIO
    total: int
    first: int
    batch: int
    every: int = 50

    def __post_init__(self) -> None:
        self.terminal = getattr(self.log, "isatty", bool)()
        self.begun = time.monotonic()
        self._mark, self._width = (self.first, self.begun), 0

    def due(self, done: int) -> bool:
        """Whether step ``done`` is one to report."""
        return done % self.every == 0

    def report(self, done: int, loss: float) -> None:
        """Say where the training is."""
        now = time.monotonic()
        step, then = self._mark
        self._mark = (done, now)
        speed = (done - step) * self.batch / max(now - then, 1e-9)
        left = self.left(done, now)
        end = time.strftime("%a %H:%M", time.localtime(time.time() + left))
        text = f"step {done}/{self.total}  loss {loss:.4f}  {speed:.3g} images/s  {duration(left)} left, ends {end}"
        if self.terminal:
            self.log.write(f"\r{text:<{self._width}}")
            self.log.flush()
            self._width = len(text)
        else:
            self.say(text)

    def say(self, text: str) -> None:
        """A line that stays."""
        cleared = f"\r{'':<{self._width}}\r" if self._width else ""
        self._width = 0
        self.log.write(f"{cleared}{text}\n")
        self.log.flush()

    def left(self, done: int, now: float | None = None) -> float:
        """Seconds to the last step at this sitting's mean pace, validations included."""
        now = time.monotonic() if now is None else now
        return (now - self.begun) / max(done - self.first, 1) * (self.total - done)


def duration(seconds: float) -> str:
    """``h:mm:ss``."""
    seconds = int(round(seconds))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

"""Progress of a training, and requests to stop it."""

import contextlib
import io
import signal
import threading
from collections.abc import Iterator
from typing import TextIO

from tqdm import tqdm


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


class Progress:
    """Progress of a sitting: a bar on a terminal, else a line now and then.

    Parameters
    ----------
    log : text stream
    total, first : int
        Steps of the recipe, and the step that this sitting begins at.
    """

    def __init__(self, log: TextIO, total: int, first: int) -> None:
        self.log = log
        self.terminal = getattr(log, "isatty", bool)()
        file = log if self.terminal else io.StringIO()
        # The mean pace of the sitting tells the time left, validations included.
        self.bar = tqdm(total=total, initial=first, unit="step", smoothing=0, file=file, mininterval=1)

    def report(self, loss: float) -> None:
        """Tell the loss, with the step, the pace and the time left."""
        self.bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
        if not self.terminal:
            self.say(str(self.bar))

    def say(self, text: str) -> None:
        """A line that stays."""
        tqdm.write(text, self.log)
        self.log.flush()

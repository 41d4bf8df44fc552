"""Small pieces of text: an error on one line, a number of things, a list of numbers in short."""

from collections.abc import Iterable


def one_line(error: object, limit: int | None = None) -> str:
    """The text of an error without line breaks, cut at `limit` characters."""
    return " ".join(str(error).split())[:limit]


def counted(number: int, noun: str) -> str:
    """A number of things in words.

    Examples
    --------
    >>> counted(1, "scan"), counted(0, "scan")
    ('1 scan', '0 scans')
    """
    return f"{number} {noun}{'s' * (number != 1)}"


def ranges(numbers: Iterable[int], to: str = "-", sep: str = ", ") -> str:
    """Sorted numbers in short.

    Examples
    --------
    >>> ranges([0, 1, 2, 3, 7])
    '0-3, 7'
    >>> ranges([0, 1, 2, 3, 7], ":", ";")
    '0:3;7'
    """
    runs: list[list[int]] = []
    for n in map(int, numbers):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return sep.join(str(a) if a == b else f"{a}{to}{b}" for a, b in runs)

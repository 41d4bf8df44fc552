"""The cards of a page: made as soon as a scan is done, or when the page is, and only where something has changed."""

import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from sctseg7t.cohort.features import Features
from sctseg7t.errors import InputError
from sctseg7t.files import write_bytes
from sctseg7t.inference import corrections
from sctseg7t.inference.record import FAILED, TABLES_OF, Record, read_record
from sctseg7t.qc.card import curves_of, make_card, summary_of
from sctseg7t.qc.viewer import has_viewer, volume_path, write_volume
from sctseg7t.report.html import html_json
from sctseg7t.version import __version__

# Raise it when cards change, so that older pages' cards are not taken over.
CARD_VERSION = 9
# Where cards wait for the page, named by what they are made from.
WAITING = ".cards"
# As the template writes them: a line each.
_LINE = re.compile(
    rb'<script type="application/json" class="card" id="[^"]*" data-key="([0-9a-f]{32})">(.*)</script>\s*$'
)


def keep_card(sidecar: str | Path, folder: str | Path, viewer: bool = False) -> None:
    """Make the card of a scan for a page that is written later; one that has been made already is kept.

    Parameters
    ----------
    sidecar : path
        Of the scan's record.
    folder : path
        The page's.
    viewer : bool
        Make what the viewer shows of the scan too.

    Raises
    ------
    OutputError
        The card cannot be written.
    """
    _keep(read_record(sidecar), Path(folder), viewer or has_viewer(Path(folder)))


def _keep(record: Record, folder: Path, viewer: bool) -> None:
    key = card_key(record)
    path = folder / WAITING / f"{key}.json"
    if path.is_file() and not (viewer and _lacks_volume(record, folder, key)):
        return
    card = make_card(record, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, html_json(card).encode())
    if viewer and _lacks_volume(record, folder, key):
        write_volume(record, card, volume_path(folder, key))


def _lacks_volume(record, folder, key):
    return record.status != FAILED and not volume_path(folder, key).is_file()


class CardStore:
    """Cards in a temporary file, so that memory does not grow with the pictures; only the small parts stay in it.

    Attributes
    ----------
    summaries, features, curves, keys : list
        Parts of each card, in the order added; ``keys`` name what it was made from.
    viewer : bool
        Whether each scan's volume is there too.
    """

    def __init__(self, folder: Path, viewer: bool = False):
        self._folder, self.viewer = folder, viewer
        self._file: IO[bytes] = tempfile.TemporaryFile()
        self._places: list[tuple[int, int]] = []
        self._known: dict[str, tuple[Path, int, int]] = {}
        self.summaries: list[dict[str, Any]] = []
        self.features: list[Features] = []
        self.curves: list[dict[str, np.ndarray]] = []
        self.keys: list[str] = []
        for path in sorted(folder.glob("*.html")):
            self._known.update(_cards_of(path))
        self._look()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def make(self, records: Sequence[Record], workers: int) -> Iterator[int]:
        """Make the cards that are missing or out of date, in several processes; yields how many are there."""
        waiting = [record for record in records if self._is_waiting(record)]
        there = len(records) - len(waiting)
        yield there
        for _ in _in_parallel(waiting, self._folder, self.viewer, min(workers, len(waiting))):
            there += 1
            yield there
        self._look()

    def _is_waiting(self, record):
        key = card_key(record)
        return key not in self._known or (self.viewer and _lacks_volume(record, self._folder, key))

    def _look(self):
        for path in (self._folder / WAITING).glob("*.json"):
            self._known[path.stem] = path, 0, path.stat().st_size

    def clear(self) -> None:
        """Remove the cards that waited for the page."""
        shutil.rmtree(self._folder / WAITING, ignore_errors=True)

    def add(self, record: Record) -> None:
        """Take the card of a record; it is made now if it is not there."""
        key = card_key(record)
        card = self._before(key) or make_card(record, self._folder)
        payload = html_json(card).encode()
        self._places.append((self._file.seek(0, 2), len(payload)))
        self._file.write(payload)
        self.summaries.append(summary_of(card))
        slices = {name: tuple(where) for name, where in card["slices"].items()}
        self.features.append(Features(card["id"], card["values"], slices))
        self.curves.append(curves_of(card))
        self.keys.append(key)

    def read(self, n: int) -> str:
        """The JSON of a card, escaped for HTML."""
        start, length = self._places[n]
        self._file.seek(start)
        return self._file.read(length).decode()

    def _before(self, key):
        if key not in self._known:
            return None
        path, start, length = self._known[key]
        try:
            with open(path, "rb") as stream:
                stream.seek(start)
                return json.loads(stream.read(length))
        except (OSError, ValueError):
            return None


def _cards_of(path: Path) -> Iterator[tuple[str, tuple[Path, int, int]]]:
    """Where the cards of a page are: (key, (path, start, length))."""
    at = 0
    try:
        with open(path, "rb") as stream:
            for line in stream:
                match = _LINE.match(line)
                if match:
                    yield match[1].decode(), (path, at + match.start(2), match.end(2) - match.start(2))
                at += len(line)
    except OSError:
        return


def _in_parallel(records: Sequence[Record], folder: Path, viewer: bool, workers: int) -> Iterator[None]:
    """Make cards; one that is lost with its process is made with the page."""
    if workers < 2:
        for record in records:
            yield _keep(record, folder, viewer)
        return
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(_keep, record, folder, viewer) for record in records]
        try:
            for future in concurrent.futures.as_completed(futures):
                try:
                    yield future.result()
                except concurrent.futures.process.BrokenProcessPool:
                    return
        finally:
            pool.shutdown(cancel_futures=True)


def card_key(record: Record) -> str:
    """Hash of all that a card is made from. Masks and tables by content; the scan, which is large, by size and time."""
    about = f"{CARD_VERSION} {__version__} {os.path.realpath(record.path)} {record.name}"
    digest = hashlib.sha256(about.encode(errors="replace"))
    digest.update(json.dumps(record.raw, sort_keys=True, default=str).encode(errors="replace"))
    tables = [record.table(kind) for kind in TABLES_OF.get(record.kind or "", ())]
    for path in (*tables, record.labels, *(record.masks[name] for name in sorted(record.masks))):
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest() if path else b"none")
        except OSError:
            digest.update(b"missing")
    try:
        for tissue, one in sorted(corrections.of_record(record).items()):
            digest.update(f"{tissue} {one.origin} {one.sha256}".encode())
    except InputError as err:
        digest.update(str(err).encode(errors="replace"))
    try:
        stat = record.image.stat()
        digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    except OSError:
        digest.update(b"missing")
    return digest.hexdigest()[:32]

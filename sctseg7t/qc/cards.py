"""Cards on their way to the page: kept on disk, and taken from the page before where nothing has changed."""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np

from sctseg7t.cohort.features import Features
from sctseg7t.cohort.records import TABLES_OF
from sctseg7t.qc.card import Card, make_card
from sctseg7t.report.html import html_json

# Raise it when cards change, so that older pages' cards are not taken over.
CARD_VERSION = 3
# As the template writes them: a line each.
_LINE = re.compile(
    rb'<script type="application/json" class="card" id="[^"]*" data-key="([0-9a-f]{32})">(.*)</script>\s*$'
)


class CardStore:
    """Makes cards and keeps them in a temporary file; in memory stay only the small parts.

    Attributes
    ----------
    summaries, features, curves, keys : list
        By card, in the order added.
    reused : int
        Cards taken from the page before.
    """

    def __init__(self, folder):
        self._folder = Path(folder)
        self._file = None
        self._places, self._known = [], {}
        self.summaries, self.features, self.curves, self.keys = [], [], [], []
        self.reused = 0

    def __enter__(self):
        self._file = tempfile.TemporaryFile()
        for path in sorted(self._folder.glob("*.html")):
            self._known.update(_cards_of(path))
        return self

    def __exit__(self, *_):
        self._file.close()

    def add(self, record):
        """Make a record's card, or take over the one it has if no file of its has changed."""
        key = _key(record)
        card = self._before(key)
        if card is None:
            card = make_card(record, self._folder)
            content = {**card.content, "kept": _kept(card)}
        else:
            content, self.reused = card.content, self.reused + 1
        payload = html_json(content).encode()
        self._places.append((self._file.seek(0, 2), len(payload)))
        self._file.write(payload)
        self.summaries.append(card.summary)
        self.features.append(card.features)
        self.curves.append(card.curves)
        self.keys.append(key)

    def read(self, n):
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
                content = json.loads(stream.read(length))
            kept = content["kept"]
            curves = {name: np.array(values, float) for name, values in kept["curves"].items()}
            slices = {name: tuple(where) for name, where in kept["slices"].items()}
            return Card(content, kept["summary"], Features(content["id"], kept["values"], slices), curves)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def _kept(card):
    """What the cohort's statistics need of a card, to be had without its files."""
    return {
        "summary": card.summary,
        "values": card.features.values,
        "slices": card.features.slices,
        "curves": {name: values.tolist() for name, values in card.curves.items()},
    }


def _cards_of(path):
    """Where the cards of a page are: key to (path, start, length)."""
    found, at = {}, 0
    try:
        with open(path, "rb") as stream:
            for line in stream:
                match = _LINE.match(line)
                if match:
                    found[match[1].decode()] = (path, at + match.start(2), match.end(2) - match.start(2))
                at += len(line)
    except OSError:
        return {}
    return found


def _key(record):
    """Hash of all that a card is made from. Masks and tables by content; the scan, which is large, by size and time."""
    digest = hashlib.sha256(f"{CARD_VERSION} {os.path.realpath(record.path)} {record.name}".encode(errors="replace"))
    digest.update(json.dumps(record.raw, sort_keys=True, default=str).encode(errors="replace"))
    tables = [record.table(kind) for kind in TABLES_OF.get(record.kind, ())]
    for path in (*tables, record.labels, *(record.masks[name] for name in sorted(record.masks))):
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest() if path else b"none")
        except OSError:
            digest.update(b"missing")
    try:
        stat = record.image.stat()
        digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    except OSError:
        digest.update(b"missing")
    return digest.hexdigest()[:32]

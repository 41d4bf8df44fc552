"""Writing the QC page: its cards, the scores of its scans, its files, and the list of records that it shows."""

import contextlib
import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from sctseg7t.cohort.outliers import FAILED_SCORE, MEASURES, cohort_band, cohort_scales, score_cohort
from sctseg7t.cohort.participants import Participants, read_participants
from sctseg7t.errors import OutputError, UsageError
from sctseg7t.files import write_json
from sctseg7t.inference.record import OK, Record, read_record, record_of
from sctseg7t.qc.card import COMPARED
from sctseg7t.qc.card_store import CardStore
from sctseg7t.qc.groups import add_groups
from sctseg7t.qc.mailable import place_of
from sctseg7t.qc.viewer import has_viewer, keep_only, write_program
from sctseg7t.report.html import html_json, inline_assets, page_environment, write_html

LISTING, INDEX, LOCK = "records.json", "index.html", ".lock"
PER_PAGE = 200
# The last style overrides the others in small windows; the last script starts the page.
_STYLES = ("page.css", "large.css", "all_scans.css", "narrow.css")
_SCRIPTS = (
    *("dom.js", "store.js", "settings.js", "exchange.js", "exchange_dialog.js", "agreement.js", "windowing.js"),
    *("beside.js", "brain.js", "strip.js", "view.js", "large.js", "panels.js", "all_scans.js", "list.js", "main.js"),
)
# Measures in the list, the plots and the table of all scans, with their decimals.
_PLOTTED = {"sc_area_mm2": 1, "gm_area_mm2": 1, "gm_sc_ratio": 3, "load_ml": 2, "lesions": 0, "brain_ml": 0}
_FORMAT = "sct7t-qc"
_PATIENCE_S = 1800


def write_page(
    records: Iterable[Record],
    folder: str | Path,
    *,
    title: str | None = None,
    per_page: int = PER_PAGE,
    participants: str | Path | None = None,
    fresh: bool = False,
    workers: int = 1,
    viewer: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write the QC page of some scans, together with those that the folder's page has already.

    Parameters
    ----------
    records : iterable of Record
        From :func:`sctseg7t.cohort.find_records`.
    folder : path
        Made if it does not exist. Gets ``index.html`` and ``records.json``, and beyond ``per_page``
        scans ``page-1.html``, ``page-2.html`` ... that the index leads to.
    title : str, optional
        Default: the title that the page has, else "QC".
    per_page : int
    participants : path, optional
        A participants.tsv, whose columns part the scans. The page remembers where it is.
    fresh : bool
        Forget the scans that the page has already. Ratings are the browser's and are kept.
    workers : int
        Processes that make cards.
    viewer : bool
        Write the viewer of volumes beside the page too. A page that has it keeps it.
    progress : callable, optional
        Called with (cards that are there, scans in all).

    Returns
    -------
    Path
        Of ``index.html``.

    Raises
    ------
    OutputError, UsageError
        The folder cannot be made or written; `participants` cannot be read.
    """
    folder = Path(folder)
    people = read_participants(participants) if participants else None
    with _alone(folder):
        listing = read_listing(folder)
        records = _merged(records, folder, {} if fresh else listing["sidecars"])
        heading = str(title or listing["title"] or "QC")
        viewer = viewer or has_viewer(folder)
        if viewer:
            write_program(folder)
        with CardStore(folder, viewer) as store:
            for done in store.make(records, workers):
                if progress:
                    progress(done, len(records))
            for record in records:
                store.add(record)
            people = people or _remembered(folder, listing["participants"])
            content = _content(store, heading, listing["id"], people)
            made = _write_pages(store, content, folder, per_page)
        places = {place_of(record, folder): record for record in records}
        shown = {
            "format": _FORMAT,
            "id": listing["id"],
            "title": heading,
            "participants": os.path.relpath(participants, folder) if participants else listing["participants"],
            "sidecars": list(places),
            "without_file": {place: record.raw for place, record in places.items() if not record.path.is_file()},
        }
        write_json(folder / LISTING, shown)
        for old in folder.glob("page-*.html"):
            if old.name not in made and old.stem.removeprefix("page-").isdigit():
                old.unlink()
        store.clear()
        if viewer:
            keep_only(folder, store.keys)
    return folder / INDEX


def read_listing(folder: str | Path) -> dict[str, Any]:
    """What ``records.json`` says of a page; a new id where there is none.

    Returns
    -------
    dict
        ``id``, ``title`` and ``participants`` (or None), and ``sidecars``: path as seen from the folder to None, or to
        the content of a record that has no file (the failure of a single run, which leaves none).
    """
    empty = {"id": secrets.token_hex(8), "title": None, "participants": None, "sidecars": {}}
    try:
        found = json.loads((Path(folder) / LISTING).read_text(encoding="utf-8"))
        sidecars = {str(path): found["without_file"].get(path) for path in found["sidecars"]}
        known = {name: found.get(name) for name in ("title", "participants")}
        return {"id": str(found["id"]), **known, "sidecars": sidecars}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return empty


def _merged(records, folder, listed):
    """The records given, and those listed before that are still to be had; sorted by path."""
    found = {os.path.realpath(record.path): record for record in records}
    for name, raw in listed.items():
        path = folder / name
        key = os.path.realpath(path)
        if key in found:
            continue
        if path.is_file():
            found[key] = read_record(path)
        elif raw is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                found[key] = record_of(path, raw)
    return [found[key] for key in sorted(found)]


def _remembered(folder, participants):
    """The participants of the page before, if they are still there."""
    with contextlib.suppress(UsageError, TypeError):
        return read_participants(folder / participants)
    return Participants({}, {}, {})


def _content(store: CardStore, title: str, page_id: str, people: Participants) -> dict[str, Any]:
    """What every page of the set shares: all scans in order, with their scores; measures and band of the cohort."""
    good = [n for n, summary in enumerate(store.summaries) if summary["status"] == OK and store.features[n].values]
    scores = dict(zip(good, score_cohort(store.features[n] for n in good)))
    scans = []
    for n, summary in enumerate(store.summaries):
        scan = {**summary, "index": n, "score": FAILED_SCORE, "z": {}, "compared": False, "groups": {}}
        scan["reasons"] = [scan.pop("error") or "nothing could be measured"]
        scan["values"] = {name: store.features[n].values[name] for name in _PLOTTED if name in store.features[n].values}
        if n in scores:
            scan["reasons"] = [reason.text for reason in scores[n].reasons]
            scan["z"] = {name: round(z, 2) for name, z in scores[n].z.items()}
            scan["compared"] = bool(scan["z"])
            # Without anything to compare it with, that no check failed is no score of 0.
            scan["score"] = scores[n].score if scan["reasons"] or scan["z"] else None
        scans.append(scan)
    scans.sort(key=lambda scan: (-(scan["score"] or 0), scan["name"]))
    measures, scales = {}, cohort_scales([store.features[n] for n in good])
    for measure in COMPARED:
        scale = scales[measure.name]
        median = measure.text.format(measure.unscaled(scale[0])) if scale else None
        measures[measure.name] = {"label": measure.label, "median": median}
    band = {}
    for tissue in ("SC", "GM"):
        band[tissue] = cohort_band([store.curves[n][tissue] for n in good if tissue in store.curves[n]])
    shown = {name for scan in scans for name in scan["values"]}
    plotted = [
        {"name": measure.name, "label": measure.label, "unit": measure.unit, "digits": _PLOTTED[measure.name]}
        for measure in MEASURES
        if measure.name in _PLOTTED and measure.name in shown
    ]
    shared = {"page": page_id, "title": title, "band": band, "measures": measures, "plotted": plotted}
    shared["viewer"] = store.viewer
    return {**shared, "groups": add_groups(scans, people), "scans": scans}


def _write_pages(store, content, folder, per_page):
    """Write index.html, and before it the pages it leads to if there are several; their names."""
    scans = content["scans"]
    if len(scans) <= per_page:
        _write_page(store, content, scans, folder / INDEX)
        return {INDEX}
    count = math.ceil(len(scans) / per_page)
    names = [f"page-{n + 1}.html" for n in range(count)]
    size = math.ceil(len(scans) / count)
    places = [names[n // size] for n in range(len(scans))]
    for name in (*names, INDEX):
        own = [scan for scan, place in zip(scans, places) if place == name]
        # Every page knows all scans, so that what is rated, exported or searched for is not a matter of the page.
        listed = [{**scan, "at": place, "z": scan["z"] if place == name else {}} for scan, place in zip(scans, places)]
        _write_page(store, {**content, "scans": listed, "pages": names, "this": name}, own, folder / name)
    return {INDEX, *names}


def _write_page(store, content, scans, path):
    from markupsafe import Markup

    environment = page_environment("sctseg7t.qc")
    cards = (
        {"id": f"card-{scan['index']}", "key": store.keys[scan["index"]], "json": Markup(store.read(scan["index"]))}
        for scan in scans
    )
    write_html(
        path,
        environment.get_template("page.html.j2"),
        title=content["title"],
        meta=Markup(html_json(content)),
        cards=cards,
        index=not scans and bool(content["scans"]),
        **inline_assets(environment, _STYLES, _SCRIPTS),
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: of two that add a scan to one page, neither loses the other's. Faults are OutputError."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=_PATIENCE_S):
            yield
    except Timeout as err:
        raise OutputError(f"{folder}: another process has been writing this QC page for long; try again later") from err
    except OSError as err:
        raise OutputError(
            f"{folder}: the QC page cannot be written ({err.strerror or err}); choose another folder"
        ) from err

"""Pictures of missed and false lesions: axial slices of the head with the contours of every mask."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from sctseg7t.compare.lesion_sections import pairs, tally
from sctseg7t.compare.lesions import FALSE, MISSED
from sctseg7t.compare.names import LESION
from sctseg7t.compare.overlays import Panel, Picture, SlicePart, scan_of_masks
from sctseg7t.compare.read import read_case
from sctseg7t.compare.sections import colour_of, pair_name
from sctseg7t.report.slice_images import brain_window, head_box

SLICES, SCANS = 6, 20
# Rings are drawn this far outside a lesion, and at most so many on a picture: the largest.
_RING_MM, _RINGS = 3.0, 12


@dataclass(frozen=True)
class ScanPictures:
    """A scan's pictures, and what they show in words."""

    case: str
    title: str
    pictures: list


def chosen_slices(items, wanted=SLICES):
    """Slices for the largest lesions without counterpart: missed and false in turn, none twice.

    Parameters
    ----------
    items : sequence of LesionItem
        Of one scan, all methods.
    wanted : int

    Returns
    -------
    list of int
        Sorted.
    """
    queues = [
        sorted((item for item in items if item.kind == kind), key=lambda item: (-item.volume_mm3, item.slice))
        for kind in (MISSED, FALSE)
    ]
    found = []
    while any(queues) and len(found) < wanted:
        for queue in queues:
            # One that is on a slice taken already is seen there.
            while queue and any(queue[0].first_slice <= k <= queue[0].last_slice for k in found):
                queue.pop(0)
            if queue and len(found) < wanted:
                found.append(queue.pop(0).slice)
    return sorted(found)


def lesion_overlays(comparison, scans=SCANS):
    """Pictures of the scans of lowest F1, worst first; every scan is read once more.

    Returns
    -------
    shown : list of ScanPictures
    notes : list of str
    """
    lowest, items = {}, defaultdict(list)
    for row in comparison.lesions.rows:
        f1 = row.agreement.f1
        lowest[row.case] = min(lowest.get(row.case, 2.0), f1 if f1 == f1 else 2.0)
    for item in comparison.lesions.items:
        items[item.case].append(item)
    cases = {case.name: case for case in comparison.cases}
    order = [name for name in sorted(lowest, key=lambda name: (lowest[name], name)) if items[name] and name in cases]
    shown, notes = [], []
    for place, name in enumerate(order[:scans]):
        pictures, problems = _case_pictures(comparison, cases[name], items[name], f"l{place}")
        if pictures:
            what = f"{name}: {len(pictures)} slices with the largest missed and false lesions"
            if comparison.reference is None:
                what = f"{name}: {len(pictures)} slices with the largest lesions that one mask alone has"
            shown.append(ScanPictures(name, what.replace("1 slices", "1 slice"), pictures))
        notes += problems
    if len(order) > scans:
        notes.append(f"Shown are the {scans} scans of lowest F1 of {len(order)} with missed or false lesions.")
    return shown, notes


def _case_pictures(comparison, case, items, prefix):
    read = read_case(case, comparison.settings, comparison.reference)
    masks = {key: mask for key, mask in read.masks.items() if key[1] == LESION}
    if read.lesion_grid is None or not masks:
        return [], [f"{case.name}: its masks can no longer be read; it has no picture"]
    image, notes = scan_of_masks(case, read.lesion_image_fits)
    union = np.logical_or.reduce(list(masks.values()))
    view = brain_window(union, head_box(image, union.shape), read.lesion_grid.spacing_mm)
    window = view.start, view.size
    limits = None if image is None else _limits(image)
    made = []
    for k in chosen_slices(items):
        part = SlicePart(masks, read.lesion_grid.spacing_mm, image, window, LESION, k, f"{prefix}-{k}", limits)
        made.append(_picture(comparison, case, part, [i for i in items if i.first_slice <= k <= i.last_slice]))
    return made, notes


def _limits(image):
    """Black and white of the head, the same on all its slices: background left out."""
    few = image[::2, ::2, ::2]
    low, high = np.percentile(few, (1, 99.9))
    inside = few[few > low + 0.05 * (high - low)]
    return float(low), float(np.percentile(inside, 99.5)) if inside.size else float(high)


def _picture(comparison, case, part, items):
    where = f"{case.name}, slice {part.index}"
    panels = []
    if part.gray is not None:
        panels.append(Panel("scan", (), (), part.svg((), f"Scan {where}, without contours")))
    for method, against in pairs(comparison):
        if any((who, LESION) not in part.masks for who in (method, against)):
            continue
        own = [item for item in items if (item.method, item.against) == (method, against)]
        colours = [colour_of(comparison, name) for name in (method, against)]
        lines = tuple(_lines(comparison, own))
        name = pair_name(comparison, method, against)
        label = f"Lesions of {where}: contours of {method} and {against}. {', '.join(lines)}"
        contours = ((f"below {colours[1]}", against), (colours[0], method))
        rings = Markup("").join(_ring(part, item, colours[item.kind == MISSED]) for item in _largest(own))
        drawn = part.svg(contours, label, rings)
        panels.append(Panel(name, lines, tuple(colours[: 1 if comparison.reference else 2]), drawn))
    title = f"slice {part.index}" + ("" if part.gray is not None else " (masks alone: no scan)")
    return Picture(LESION, case.name, part.index, title, part.background(), tuple(panels))


def _largest(items):
    return sorted(items, key=lambda item: -item.volume_mm3)[:_RINGS]


def _lines(comparison, items):
    if comparison.reference:
        return tally(items)
    return [
        line.replace("missed", "of the second alone").replace("false", "of the first alone") for line in tally(items)
    ]


def _ring(part, item, colour):
    """A circle around a lesion: dashed where it was missed."""
    x, y = part.on_screen(item.centroid_x_vox, item.centroid_y_vox)
    radius = item.diameter_mm / 2 + _RING_MM
    title = f"{item.kind} lesion {item.id}: {item.volume_mm3:.0f} mm³"
    return Markup(
        f'<circle class="ring {escape(item.kind)} {escape(colour)}" cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}">'
        f"<title>{escape(title)}</title></circle>"
    )

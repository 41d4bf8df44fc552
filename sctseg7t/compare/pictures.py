"""Pictures of where methods fail: the scan around worst slices and unmatched lesions, with every mask's contour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape

from sctseg7t.compare.cells import colour_of, number, pair_name
from sctseg7t.compare.load_masks import load_case
from sctseg7t.compare.types import LESION, Case, Comparison
from sctseg7t.errors import InputError
from sctseg7t.report.contours import outline
from sctseg7t.report.slice_images import (
    Window,
    brain_window,
    cord_window,
    cut,
    encode_all,
    gray_range,
    head_box,
    to_gray,
)

if TYPE_CHECKING:
    import pandas as pd

WORST, LESION_SLICES, LESION_SCANS = 8, 6, 20
EMPTY = ("missing", "extra")
# So that one bad scan, or slices where one mask ends, are not all that is shown.
_OF_ONE_SCAN, _WITHOUT_MASK = 2, 3
# A closer look at what is small.
_FIELD_MM, _FIELD_GM_MM = 20.0, 14.0
# Rings are drawn this far outside a lesion, and at most so many on a picture: the largest.
_RING_MM, _RINGS = 3.0, 12


@dataclass(frozen=True)
class Panel:
    """One picture of a slice: whose contours, numbers below; ``chips``: their colours."""

    title: str
    lines: tuple[str, ...]
    chips: tuple[str, ...]
    svg: Markup


@dataclass(frozen=True)
class Picture:
    """A slice: the scan alone and a panel for each comparison."""

    case: str
    index: int
    title: str
    definition: Markup
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class ScanPictures:
    """A scan's pictures, and what they show in words."""

    title: str
    pictures: list[Picture]


# --- worst slices ------------------------------------------------------------------------


def worst_slices(comparison: Comparison, structure: str, wanted: int = WORST) -> list[tuple[str, int]]:
    """The slices of the lowest Dice of any method, worst first: list of (case, slice).

    At most two of a scan; at most three in which one mask is empty, so that they do not hide the rest.
    """
    slices = comparison.slices(structure)
    slices = slices[slices.dice.notna()].sort_values("dice", kind="stable").drop_duplicates(["case", "index"])
    found, of_scan, without = [], Counter(), 0
    for row in slices.sort_values(["dice", "case", "index"]).itertuples():
        empty = row.outlier in EMPTY
        if of_scan[row.case] >= _OF_ONE_SCAN or (empty and without >= _WITHOUT_MASK):
            continue
        found.append((row.case, int(slices.at[row.Index, "index"])))
        of_scan[row.case] += 1
        without += empty
        if len(found) == wanted:
            break
    return found


def worst_slice_pictures(comparison: Comparison, wanted: int = WORST) -> tuple[dict[str, list[Picture]], list[str]]:
    """Pictures of the worst slices of each structure.

    Every scan is read once. Where it cannot be read the masks are shown alone.

    Returns
    -------
    pictures : dict of str to list of Picture
        By structure.
    notes : list of str
        What could not be shown, and why.
    """
    chosen = {structure: worst_slices(comparison, structure, wanted) for structure in comparison.structures}
    cases = {case.name: case for case in comparison.cases}
    made, notes = {}, []
    for place, name in enumerate(dict.fromkeys(case for keys in chosen.values() for case, _ in keys)):
        loaded = load_case(cases[name], comparison.settings, comparison.reference)
        if loaded.grid is None or not loaded.masks:
            notes.append(f"{name}: its masks can no longer be read; it has no picture")
            continue
        image, problems = scan_of_masks(cases[name], loaded.image_fits)
        notes += problems
        for structure, keys in chosen.items():
            own = [
                mask
                for (_, tissue), mask in loaded.masks.items()
                if tissue != LESION and (tissue == structure or structure not in ("SC", "GM"))
            ]
            for index in (k for case, k in keys if case == name):
                field = _FIELD_GM_MM if structure == "GM" else _FIELD_MM
                window = cord_window(np.logical_or.reduce(own), loaded.grid.shape, loaded.grid.spacing_mm, field)
                key = f"c{place}-{structure}-{index}"
                part = SlicePart(loaded.masks, loaded.grid.spacing_mm, image, window, structure, index, key)
                made[structure, name, index] = _slice_picture(comparison, name, part)
    shown = {s: [made[s, *key] for key in keys if (s, *key) in made] for s, keys in chosen.items()}
    return shown, notes


def _slice_picture(comparison: Comparison, name: str, part: SlicePart) -> Picture:
    slices = comparison.slices(part.structure)
    rows = slices[(slices.case == name) & (slices["index"] == part.index)]
    told = {}
    for row in rows.itertuples():
        dice = f"Dice {number(row.dice, '.3f')}" + (f" ({row.outlier})" if row.outlier in EMPTY else "")
        areas = [f"{number(size, '.1f')} mm²" for size in (row.size_method, row.size_against)]
        told[row.method, row.against] = (dice, areas[0], f"{row.against} {areas[1]}"), Markup()
    return _picture(comparison, name, part, f"{name}, slice {part.index}", told)


# --- lesions without counterpart ---------------------------------------------------------


def chosen_slices(items: pd.DataFrame, wanted: int = LESION_SLICES) -> list[int]:
    """Slices for the largest lesions without counterpart: missed and false in turn, none twice; sorted.

    Parameters
    ----------
    items : DataFrame
        Of one scan, all methods: kind, volume_mm3, slice, first_slice, last_slice.
    wanted : int
    """
    columns = ["kind", "volume_mm3", "slice", "first_slice", "last_slice"]
    ordered = items.sort_values(["volume_mm3", "slice"], ascending=[False, True], kind="stable")[columns]
    queues = [list(ordered[ordered.kind == kind].itertuples(index=False, name=None)) for kind in ("missed", "false")]
    found: list[int] = []
    while any(queues) and len(found) < wanted:
        for queue in queues:
            # One that is on a slice taken already is seen there.
            while queue and any(queue[0][3] <= k <= queue[0][4] for k in found):
                queue.pop(0)
            if queue and len(found) < wanted:
                found.append(int(queue.pop(0)[2]))
    return sorted(found)


def lesion_pictures(comparison: Comparison, scans: int = LESION_SCANS) -> tuple[list[ScanPictures], list[str]]:
    """Pictures of the scans of lowest F1, worst first; every scan is read once more.

    Returns
    -------
    shown : list of ScanPictures
    notes : list of str
    """
    items = comparison.unmatched
    lowest = comparison.lesion_rows.assign(f1=lambda rows: rows.f1.fillna(2.0)).groupby("case").f1.min()
    order = [name for name in sorted(lowest.index, key=lambda name: (lowest[name], name)) if name in set(items.case)]
    cases = {case.name: case for case in comparison.cases}
    shown, notes = [], []
    for place, name in enumerate(order[:scans]):
        pictures, problems = _lesion_pictures_of(comparison, cases[name], items[items.case == name], f"l{place}")
        notes += problems
        if pictures:
            slices = f"{len(pictures)} slice{'s' * (len(pictures) != 1)}"
            what = "missed and false lesions" if comparison.reference else "lesions that one mask alone has"
            shown.append(ScanPictures(f"{name}: {slices} with the largest {what}", pictures))
    if len(order) > scans:
        notes.append(f"Shown are the {scans} scans of lowest F1 of {len(order)} with missed or false lesions.")
    return shown, notes


def _lesion_pictures_of(comparison, case, items, prefix) -> tuple[list[Picture], list[str]]:
    loaded = load_case(case, comparison.settings, comparison.reference)
    masks = {key: mask for key, mask in loaded.masks.items() if key[1] == LESION}
    if loaded.lesion_grid is None or not masks:
        return [], [f"{case.name}: its masks can no longer be read; it has no picture"]
    image, notes = scan_of_masks(case, loaded.lesion_image_fits)
    union = np.logical_or.reduce(list(masks.values()))
    spacing_mm = loaded.lesion_grid.spacing_mm
    window = brain_window(union, head_box(image, union.shape), spacing_mm)
    limits = None
    if image is not None:
        # Black and white of the head, the same on all its slices: background left out.
        few = image[::2, ::2, ::2]
        low, high = np.percentile(few, (1, 99.9))
        inside = few[few > low + 0.05 * (high - low)]
        limits = float(low), float(np.percentile(inside, 99.5) if inside.size else high)
    made = []
    for k in chosen_slices(items):
        part = SlicePart(masks, spacing_mm, image, window, LESION, k, f"{prefix}-{k}", limits)
        there = items[(items.first_slice <= k) & (items.last_slice >= k)]
        made.append(_lesion_picture(comparison, case.name, part, there))
    return made, notes


def _lesion_picture(comparison: Comparison, name: str, part: SlicePart, items: pd.DataFrame) -> Picture:
    told = {}
    for method, against in comparison.pairs_of(LESION):
        if any((who, LESION) not in part.masks for who in (method, against)):
            continue
        own = items[(items.method == method) & (items.against == against)]
        lines = []
        for kind, alone in (("missed", "of the second alone"), ("false", "of the first alone")):
            volumes = own.volume_mm3[own.kind == kind]
            more = f", largest {number(volumes.max(), '.0f')} mm³" if len(volumes) else ""
            lines.append(f"{len(volumes)} {kind if comparison.reference else alone}{more}")
        largest = own.sort_values("volume_mm3", ascending=False, kind="stable")[:_RINGS]
        colours = {"missed": colour_of(comparison, against), "false": colour_of(comparison, method)}
        rings = [_ring(part, item, colours[item.kind], comparison.reference) for item in largest.itertuples()]
        told[method, against] = tuple(lines), Markup("").join(rings)
    return _picture(comparison, name, part, f"slice {part.index}", told)


def _ring(part: SlicePart, item, colour: str, reference: str | None) -> Markup:
    """A circle around a lesion: dashed where it was missed."""
    x, y = part.on_screen(item.centroid_x_vox, item.centroid_y_vox)
    radius = item.diameter_mm / 2 + _RING_MM
    title = f"{item.kind if reference else 'unmatched'} lesion {item.id:.0f}: {item.volume_mm3:.0f} mm³"
    return Markup(
        f'<circle class="ring {escape(item.kind)} {escape(colour)}" cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}">'
        f"<title>{escape(title)}</title></circle>"
    )


# --- one slice ---------------------------------------------------------------------------


def scan_of_masks(case: Case, fits: bool) -> tuple[np.ndarray | None, list[str]]:
    """The scan on the masks' grid, mean of its volumes; None with a note where there is none."""
    from sctseg7t.image.volume import load

    if case.image is None:
        return None, []
    if not fits:
        return None, [f"{case.name}: the scan is not on the masks' grid; they are shown without it"]
    try:
        return load(case.image, volumes="mean", axial=False).data[..., 0], []
    except InputError as err:
        return None, [f"{case.name}: the scan cannot be shown ({err}); its masks are shown alone"]


class SlicePart:
    """The window of one slice: background, contours, and sizes in mm.

    Parameters
    ----------
    masks : dict of (method, structure) to (X, Y, Z) bool
    spacing_mm : sequence of float
    image : (X, Y, Z) array or None
    window : Window
    structure : str
    index : int
        The slice.
    key : str
        Unique in the page.
    limits : (float, float), optional
        Black and white; default the window's own.
    """

    def __init__(
        self,
        masks: Mapping[tuple[str, str], np.ndarray],
        spacing_mm: Sequence[float],
        image: np.ndarray | None,
        window: Window,
        structure: str,
        index: int,
        key: str,
        limits: tuple[float, float] | None = None,
    ):
        self.masks, self.structure, self.index, self.anchor = masks, structure, index, f"slice-{key}"
        self.start, self.size, self.spacing_mm = window.start[index], window.size, spacing_mm
        self.width = round(self.size[0] * spacing_mm[0], 3)
        self.height = round(self.size[1] * spacing_mm[1], 3)
        self.gray = None
        if image is not None:
            plane = cut(image[..., index], self.start, self.size)
            self.gray = to_gray(plane, limits or gray_range(plane))

    def background(self) -> Markup:
        """The gray picture, once for all panels."""
        if self.gray is None:
            inside = f'<rect class="blank" width="{self.width}" height="{self.height}"/>'
        else:
            data = encode_all([self.gray])[0]
            inside = (
                f'<image width="{self.width}" height="{self.height}" preserveAspectRatio="none" '
                f'href="data:image/webp;base64,{data}"/>'
            )
        return Markup(
            f'<svg class="definitions" width="0" height="0" aria-hidden="true">'
            f'<defs><g id="{self.anchor}">{inside}</g></defs></svg>'
        )

    def on_screen(self, x: float, y: float) -> tuple[float, float]:
        """Where the middle of a voxel is in the picture, mm."""
        right, down = ((self.start[n] + self.size[n] - 0.5 - v) * self.spacing_mm[n] for n, v in enumerate((x, y)))
        return right, down

    def svg(self, contours: Sequence[tuple[str, str]], label: str, more: str = "") -> Markup:
        """The slice with contours (class, method), each on a dark line that shows it on any gray.

        ``more``: elements in mm, on top.
        """
        sx, sy = (f"{size:.6g}" for size in self.spacing_mm[:2])
        parts = [f'<use href="#{self.anchor}"/>', f'<g transform="scale({sx} {sy})">']
        for kind, method in contours:
            mask = self.masks.get((method, self.structure))
            path = "" if mask is None else outline(cut(mask[..., self.index], self.start, self.size))
            if path:
                parts.append(f'<path class="halo {kind}" d="{path}"/><path class="contour {kind}" d="{path}"/>')
        parts.append(f"</g>{more}")
        return Markup(
            f'<svg class="slice" viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(label)}">'
            f"{''.join(parts)}</svg>"
        )


def _picture(
    comparison: Comparison,
    name: str,
    part: SlicePart,
    title: str,
    told: Mapping[tuple[str, str], tuple[tuple[str, ...], Markup]],
) -> Picture:
    """A slice with a panel for each pair of masks, the method's contour on top; `told`: its lines and what is drawn.

    Of lesions each mask has a panel of its own, and rings tell in the method's where the other one differs.
    """
    panels = []
    if part.gray is not None:
        panels.append(Panel("scan", (), (), part.svg((), f"Scan {name}, slice {part.index}, without contours")))
    pairs = [pair for pair in comparison.pairs_of(part.structure) if pair in told]
    # Contours of small lesions lie on each other, and two colours read as a third: each mask has its own picture.
    apart = part.structure == LESION
    what = "Lesions" if apart else part.structure
    for against in dict.fromkeys(against for _, against in pairs) if apart else ():
        label = f"{what} of {name}, slice {part.index}: contours of {against}"
        colour = colour_of(comparison, against)
        panels.append(Panel(against, (), (colour,), part.svg(((colour, against),), label)))
    for method, against in pairs:
        lines, more = told[method, against]
        own, other = colour_of(comparison, method), colour_of(comparison, against)
        label = f"{what} of {name}, slice {part.index}: contours of {method}"
        label += f". {', '.join(lines)}" if apart else f" and {against}. {', '.join(lines)}"
        drawn = part.svg((*(() if apart else ((f"below {other}", against),)), (own, method)), label, more)
        chips = (own,) if comparison.reference else (own, other)
        panels.append(Panel(pair_name(comparison, method, against), lines, chips, drawn))
    title += "" if part.gray is not None else " (masks alone: no scan)"
    return Picture(name, part.index, title, part.background(), tuple(panels))

"""Pictures of the slices on which methods fail: the scan around the cord, and each method's contour in it."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from sctseg7t.compare.read import read_case
from sctseg7t.compare.sections import colour_of, pair_name, pairs
from sctseg7t.compare.wording import number, value_of
from sctseg7t.errors import InputError
from sctseg7t.report.contours import outline
from sctseg7t.report.slice_images import cord_window, cut, encode_all, gray_range, to_gray

WORST = 8
EMPTY = ("missing", "extra")
# So that one bad scan, or slices where one mask ends, are not all that is shown.
_OF_ONE_SCAN, _WITHOUT_MASK = 2, 3
# A closer look at what is small.
FIELD_MM, FIELD_GM_MM = 20.0, 14.0


@dataclass(frozen=True)
class Panel:
    """One picture of a slice: whose contours, numbers below; ``chips``: their colours."""

    title: str
    lines: tuple
    chips: tuple
    svg: Markup


@dataclass(frozen=True)
class Picture:
    """A slice: the scan alone and a panel for each comparison."""

    structure: str
    case: str
    index: int
    title: str
    definition: Markup
    panels: tuple


def worst_slices(comparison, structure, wanted=WORST):
    """The slices of the lowest Dice of any method, worst first: list of (case, slice).

    At most two of a scan; at most three in which one mask is empty, so that they do not hide the rest.
    """
    lowest, empty = {}, set()
    for row in comparison.rows:
        if row.where != "slice" or row.structure != structure:
            continue
        dice, key = value_of(row, "dice"), (row.case, row.index)
        if dice == dice and dice < lowest.get(key, 2.0):
            lowest[key] = dice
            empty.discard(key)
            if row.outlier in EMPTY:
                empty.add(key)
    found, of_scan, without = [], Counter(), 0
    for key in sorted(lowest, key=lambda key: (lowest[key], key)):
        if of_scan[key[0]] >= _OF_ONE_SCAN or (key in empty and without >= _WITHOUT_MASK):
            continue
        found.append(key)
        of_scan[key[0]] += 1
        without += key in empty
        if len(found) == wanted:
            break
    return found


def overlays(comparison, wanted=WORST):
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
    by_case = defaultdict(list)
    for structure, keys in chosen.items():
        for name, index in keys:
            by_case[name].append((structure, index))
    rows = defaultdict(list)
    for row in comparison.rows:
        if row.where == "slice":
            rows[row.case, row.structure, row.index].append(row)
    cases, made, notes = {case.name: case for case in comparison.cases}, {}, []
    for place, (name, wanted_here) in enumerate(by_case.items()):
        if name not in cases:
            continue
        shown, problems = _case_pictures(comparison, cases[name], wanted_here, rows, f"c{place}")
        made |= shown
        notes += problems
    return {
        structure: [made[structure, *key] for key in keys if (structure, *key) in made]
        for structure, keys in chosen.items()
    }, notes


def _case_pictures(comparison, case, wanted, rows, prefix):
    read = read_case(case, comparison.settings, comparison.reference)
    if read.grid is None or not read.masks:
        return {}, [f"{case.name}: its masks can no longer be read; it has no picture"]
    image, notes = scan_of_masks(case, read.image_fits)
    made = {}
    for structure, index in wanted:
        window, key = _window(read, structure), f"{prefix}-{structure}-{index}"
        place = window.start, window.size
        part = SlicePart(read.masks, read.grid.spacing_mm, image, place, structure, index, key)
        made[structure, case.name, index] = _picture(comparison, case, part, rows[case.name, structure, index])
    return made, notes


def _window(read, structure):
    own = [mask for (_, tissue), mask in read.masks.items() if tissue == structure or structure not in ("SC", "GM")]
    field = FIELD_GM_MM if structure == "GM" else FIELD_MM
    return cord_window(np.logical_or.reduce(own), read.grid.shape, read.grid.spacing_mm, field)


def scan_of_masks(case, fits):
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

    ``window``: (Z, 2) first voxels and the size; ``limits``: black and white, default the window's own.
    """

    def __init__(self, masks, spacing_mm, image, window, structure, index, key, limits=None):
        self.masks, self.structure, self.index, self.key = masks, structure, index, key
        self.start, self.size = window[0][index], window[1]
        self.spacing_mm = spacing_mm
        self.width = round(self.size[0] * self.spacing_mm[0], 3)
        self.height = round(self.size[1] * self.spacing_mm[1], 3)
        self.gray = None
        if image is not None:
            plane = cut(image[..., index], self.start, self.size)
            self.gray = to_gray(plane, limits or gray_range(plane))

    def contour(self, method):
        mask = self.masks.get((method, self.structure))
        return "" if mask is None else outline(cut(mask[..., self.index], self.start, self.size))

    def background(self):
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

    def on_screen(self, x, y):
        """Where the middle of a voxel is in the picture, mm."""
        at = ((self.start[axis] + self.size[axis] - 0.5 - v) * self.spacing_mm[axis] for axis, v in enumerate((x, y)))
        return tuple(at)

    @property
    def anchor(self):
        return f"slice-{self.key}"

    def svg(self, contours, label, more=""):
        """``contours``: (class, method) drawn in this order, each on a dark line that shows it on any gray; ``more``:
        elements in mm."""
        sx, sy = (f"{size:.6g}" for size in self.spacing_mm[:2])
        parts = [f'<use href="#{self.anchor}"/>', f'<g transform="scale({sx} {sy})">']
        for kind, method in contours:
            path = self.contour(method)
            if path:
                parts.append(f'<path class="halo {kind}" d="{path}"/><path class="contour {kind}" d="{path}"/>')
        parts.append(f"</g>{more}")
        return Markup(
            f'<svg class="slice" viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(label)}">'
            f"{''.join(parts)}</svg>"
        )


def _picture(comparison, case, part, rows):
    order = pairs(comparison, part.structure)
    where = f"{case.name}, slice {part.index}"
    panels = []
    if part.gray is not None:
        panels.append(Panel("scan", (), (), part.svg((), f"Scan {where}, without contours")))
    for row in sorted(rows, key=lambda row: order.index((row.method, row.against))):
        colours = [colour_of(comparison, name) for name in (row.method, row.against)]
        name = pair_name(comparison, row.method, row.against)
        dice = f"Dice {number(value_of(row, 'dice'), 3)}" + (f" ({row.outlier})" if row.outlier in EMPTY else "")
        areas = [number(size, 1) for size in (row.agreement.mask_size, row.agreement.reference_size)]
        lines = (dice, f"{areas[0]} mm²", f"{row.against} {areas[1]} mm²")
        label = f"{part.structure} of {where}: contours of {row.method} and {row.against}. {', '.join(lines)}"
        drawn = part.svg(((f"below {colours[1]}", row.against), (colours[0], row.method)), label)
        panels.append(Panel(name, lines, tuple(colours[: 1 if comparison.reference else 2]), drawn))
    title = where + ("" if part.gray is not None else " (masks alone: no scan)")
    return Picture(part.structure, case.name, part.index, title, part.background(), tuple(panels))

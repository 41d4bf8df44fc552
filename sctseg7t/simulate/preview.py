"""A contact sheet of simulated windows, beside real ones if wished, for a person to judge whether they look real."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sctseg7t.image.frame import frame_of
from sctseg7t.image.windows import sample_windows
from sctseg7t.report import plotting
from sctseg7t.simulate.cord import CordSimulator
from sctseg7t.train.real_scans import LabelledScan, prepare
from sctseg7t.zoo.manifest import load_manifest

# SC and GM.
_COLOURS = plotting.PALETTE[5], plotting.PALETTE[4]
_PER_ROW = 3


@dataclass(frozen=True)
class Window:
    """A window around the cord: image and ``inside`` (S, S), fractions of SC and GM (None: not known), caption."""

    image: np.ndarray
    inside: np.ndarray
    fractions: Sequence[np.ndarray | None]
    caption: str


def contact_sheet(
    simulator: CordSimulator,
    count: int,
    seed: int,
    path: str | Path,
    title: str = "",
    beside: Sequence[LabelledScan] = (),
) -> Path:
    """Draw ``count`` windows as a PNG file.

    Each window stands twice, the second time with the outlines of its SC and GM labels at a fraction
    of one half, under a line on what was drawn for it.

    Parameters
    ----------
    simulator : CordSimulator
    count, seed : int
        The windows are those of ``simulator.scene(count, seed)``.
    path : path
    title : str, optional
    beside : sequence of LabelledScan, optional
        Real scans: below each row of simulated windows stands one of theirs.

    Raises
    ------
    InputError
        A real scan or its mask cannot be used.
    OutputError
        The file cannot be written.
    """
    windows = _simulated(simulator.scene(count, seed))
    if beside:
        windows = _alternating(windows, _real(beside, count, simulator.size))
    figure, axes = plotting.new_figure(-(-len(windows) // _PER_ROW), 2 * _PER_ROW, 2.3, 2.75)
    for axis in axes.flat[2 * len(windows) :]:
        axis.axis("off")
    for window, pair in zip(windows, axes.flat[: 2 * len(windows)].reshape(-1, 2)):
        low, high = np.quantile(window.image[window.inside], (0.005, 0.995))
        outlines = [(f.T, colour, "-") for f, colour in zip(window.fractions, _COLOURS) if f is not None]
        for axis, shown in zip(pair, ([], outlines)):
            image = np.where(window.inside, window.image, low).T
            plotting.slice_with_outlines(axis, image, shown, limits=(low, high), linewidth=0.9)
        pair[0].set_title(window.caption, fontsize=9, loc="left")
    figure.suptitle(" — ".join(filter(None, [title, f"seed {seed}", "SC blue, GM orange"])), fontsize=9)
    return plotting.save(figure, path, dpi=110)[0]


def _simulated(scene):
    return [
        Window(scene.image[k, 0].numpy(), scene.inside[k, 0].numpy() > 0, scene.target[k].numpy(), caption(drawn))
        for k, drawn in enumerate(map(scene.settings_of, range(scene.count)))
    ]


def _real(scans: Sequence[LabelledScan], count: int, size: int) -> list[Window]:
    """``count`` windows of real scans in turn, from slices spread over each."""
    spec, found = load_manifest().model("cord_gm_sc"), []
    for order, scan in enumerate(scans):
        case = prepare(scan, spec)
        slices = np.flatnonzero(case.marked)
        mine = len(range(order, count, len(scans)))
        slices = slices[np.linspace(0, len(slices) - 1, mine + 2)[1:-1].astype(int)]
        centres = np.full_like(case.centres_vox, np.nan)
        centres[slices] = case.centres_vox[slices]

        def cut(data, of=case, at=centres):
            return sample_windows(data.astype(np.float32), frame_of(of.affine), at, size=size)

        images, inside = cut(case.data)
        masks = [cut(case.references[name])[0] if name in case.references else None for name in ("SC", "GM")]
        for k in slices:
            fractions = [None if mask is None else mask[k] for mask in masks]
            found.append((k, order, Window(images[k], inside[k], fractions, f"real: {scan.name}\nslice {k}")))
    return [window for _, _, window in sorted(found, key=lambda item: item[:2])]


def _alternating(*kinds: Sequence[Window]) -> list[Window]:
    """A row of each kind in turn."""
    rows = itertools.zip_longest(
        *([kind[k : k + _PER_ROW] for k in range(0, len(kind), _PER_ROW)] for kind in kinds), fillvalue=[]
    )
    return [window for row in rows for part in row for window in part]


def caption(drawn: Mapping[str, Mapping[str, float]]) -> str:
    """Two lines on one window from its drawn numbers (effect → name → number, as :meth:`SliceScene.settings_of` gives).

    Pixel size, thickness, SNR and scale; what chance switched on, and what it made of the tissues.
    """
    numbers = [
        form.format(drawn[effect][name])
        for effect, name, form in (
            ("resolution", "pixel_mm", "pixel {:.2f} mm"),
            ("slab", "thickness", "thick {:.1f} mm"),
            ("noise", "snr", "SNR {:.0f}"),
            ("build", "scale", "scale {:.2f}"),
        )
        if effect in drawn
    ]
    # The dorsal horns and the commissure are on in most images: not worth a reader's eye.
    on = [name for name, kept in drawn.items() if kept.get("on") and name not in ("dorsal_horns", "commissure")]
    if not any(value for name, value in drawn.get("lesions", {}).items() if name.startswith("on") and name != "on"):
        on = [name for name in on if name != "lesions"]
    kinds = {"dark_gm", "flat_gm", "iso_csf", "dark_csf", "interpolated"}
    on += [name for kept in drawn.values() for name, value in kept.items() if name in kinds and value]
    return ", ".join(numbers) + "\n" + (", ".join(on) or "no optional effect")

"""A contact sheet of simulated windows, for a person to judge whether they look real."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sctseg7t.report import plotting
from sctseg7t.simulate.cord import CordSimulator
from sctseg7t.simulate.scene import CordScene

# SC and GM.
_COLOURS = plotting.PALETTE[5], plotting.PALETTE[4]
_PER_ROW = 3


def contact_sheet(simulator: CordSimulator, count: int, seed: int, path: str | Path, title: str = "") -> Path:
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

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    scene = simulator.scene(count, seed)
    rows = -(-count // _PER_ROW)
    figure, axes = plotting.new_figure(rows, 2 * _PER_ROW, 2.3, 2.75)
    for axis in axes.flat[2 * count :]:
        axis.axis("off")
    for k in range(count):
        row, column = divmod(k, _PER_ROW)
        pair = axes[row, 2 * column : 2 * column + 2]
        _draw_window(pair, scene, k)
        pair[0].set_title(caption(scene.settings_of(k)), fontsize=7, loc="left")
    figure.suptitle(" — ".join(filter(None, [title, f"seed {seed}", "SC blue, GM orange"])), fontsize=9)
    return plotting.save(figure, path, dpi=110)[0]


def caption(drawn: Mapping[str, Mapping[str, float]]) -> str:
    """Two lines on one window from its drawn numbers: pixel size, SNR and scale; optional effects that are on."""
    numbers = [
        f"{text} {drawn[effect][name]:{form}}{unit}"
        for effect, name, text, form, unit in (
            ("resolution", "pixel_mm", "pixel", ".2f", " mm"),
            ("slab", "thickness", "thick", ".1f", " mm"),
            ("noise", "snr", "SNR", ".0f", ""),
            ("build", "scale", "scale", ".2f", ""),
        )
        if name in drawn.get(effect, {})
    ]
    return ", ".join(numbers) + "\n" + (", ".join(effects_on(drawn)) or "no optional effect")


def effects_on(drawn: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Names of the effects that chance switched on for an image, and of what chance made of its tissues.

    Parameters
    ----------
    drawn : dict of str to dict
        Effect → name → number, as :meth:`SliceScene.settings_of` gives.
    """
    # The dorsal horns and the commissure are on in most images: not worth a reader's eye.
    usual = ("dorsal_horns", "commissure")
    names = [name for name, kept in drawn.items() if kept.get("on") and name not in usual]
    spots = [value for key, value in drawn.get("lesions", {}).items() if key.startswith("on") and key != "on"]
    if "lesions" in names and not any(spots):
        names.remove("lesions")
    return names + [
        key
        for name in ("tissues", "resolution")
        for key in drawn.get(name, {})
        if key in ("dark_gm", "flat_gm", "iso_csf", "dark_csf", "interpolated") and drawn[name][key]
    ]


def _draw_window(pair: np.ndarray, scene: CordScene, k: int) -> None:
    inside = scene.inside[k, 0].numpy() > 0
    image = scene.image[k, 0].numpy()
    low, high = np.quantile(image[inside], (0.005, 0.995))
    image = np.where(inside, image, low)
    outlines = [(fraction.T, colour, "-") for fraction, colour in zip(scene.target[k].numpy(), _COLOURS)]
    for axis, shown in zip(pair, ([], outlines)):
        plotting.slice_with_outlines(axis, image.T, shown, limits=(low, high), linewidth=0.9)

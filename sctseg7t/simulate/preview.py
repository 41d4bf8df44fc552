"""A contact sheet of simulated windows, for a person to judge whether they look real."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sctseg7t.report import plotting
from sctseg7t.simulate.cord import CordSimulator

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
    figure, axes = plotting.new_figure(-(-count // _PER_ROW), 2 * _PER_ROW, 2.3, 2.75)
    for axis in axes.flat[2 * count :]:
        axis.axis("off")
    for k in range(count):
        inside, image = scene.inside[k, 0].numpy() > 0, scene.image[k, 0].numpy()
        low, high = np.quantile(image[inside], (0.005, 0.995))
        outlines = [(fraction.T, colour, "-") for fraction, colour in zip(scene.target[k].numpy(), _COLOURS)]
        pair = axes.flat[2 * k : 2 * k + 2]
        for axis, shown in zip(pair, ([], outlines)):
            shown_image = np.where(inside, image, low).T
            plotting.slice_with_outlines(axis, shown_image, shown, limits=(low, high), linewidth=0.9)
        pair[0].set_title(caption(scene.settings_of(k)), fontsize=7, loc="left")
    figure.suptitle(" — ".join(filter(None, [title, f"seed {seed}", "SC blue, GM orange"])), fontsize=9)
    return plotting.save(figure, path, dpi=110)[0]


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

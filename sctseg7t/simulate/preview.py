"""A contact sheet of simulated windows, for a person to judge whether they look real."""

import io

import numpy as np

from sctseg7t.files import write_bytes

# Colours that colour-blind readers tell apart on gray (Okabe and Ito).
COLOURS = {"SC": "#56b4e9", "GM": "#e69f00"}
_PER_ROW = 3


def contact_sheet(simulator, count, seed, path, title=""):
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

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    from matplotlib.figure import Figure

    scene = simulator.scene(count, seed)
    rows = -(-count // _PER_ROW)
    figure = Figure(figsize=(4.6 * _PER_ROW, 2.75 * rows + 0.4), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.03, wspace=0.0, hspace=0.01)
    axes = figure.subplots(rows, 2 * _PER_ROW, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for k in range(count):
        row, column = divmod(k, _PER_ROW)
        pair = axes[row, 2 * column : 2 * column + 2]
        _draw_window(pair, scene, k)
        pair[0].set_title(caption(scene.settings_of(k)), fontsize=7, loc="left")
    figure.suptitle(" — ".join(filter(None, [title, f"seed {seed}", "SC blue, GM orange"])), fontsize=9)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return write_bytes(path, stream.getvalue())


def caption(drawn):
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


def effects_on(drawn):
    """Names of the effects that chance switched on for an image, and of what chance made of its tissues.

    Parameters
    ----------
    drawn : dict of str to dict
        Effect → name → number, as :meth:`Scene.settings_of` gives.
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


def _draw_window(pair, scene, k):
    inside = scene.inside[k, 0].numpy() > 0
    image = scene.image[k, 0].numpy()
    low, high = np.quantile(image[inside], (0.005, 0.995))
    image = np.where(inside, image, low)
    for axis in pair:
        axis.imshow(image, cmap="gray", origin="lower", vmin=low, vmax=high, interpolation="nearest")
    for fraction, colour in zip(scene.target[k].numpy(), COLOURS.values()):
        if fraction.max() > 0.5:
            pair[1].contour(fraction, [0.5], colors=colour, linewidths=0.9)

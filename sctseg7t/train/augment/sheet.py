"""A contact sheet of an augmentation: originals and what becomes of them, with their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sctseg7t.report import plotting
from sctseg7t.train.scans.augmentation import Augment
from sctseg7t.train.scans.items import Item, Items

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROWS, _DRAWS = 6, 5


def contact_sheet(items: Items, change: Augment, path: str | Path, title: str, *, margin: int = 0) -> Path:
    """Draw an original a row, and beside it draws of its augmentation as a network gets them, labels outlined.

    Parameters
    ----------
    items : Items
        Six of them are shown, evenly apart. Of a volume, the slice with the most of its labels.
    change : callable
        As :func:`sctseg7t.train.scans.augmentation.augmentation` gives it.
    path : path
        ``.png``.
    title : str
    margin : int
        Samples that the items have around what the network sees.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    chosen = np.unique(np.linspace(0, len(items) - 1, min(_ROWS, len(items))).round().astype(int))
    figure, axes = plotting.new_figure(len(chosen), _DRAWS + 1, 1.6, 1.75)
    for row, number in zip(axes, chosen):
        original = items.item(int(number), margin)
        draws = [change(original, np.random.default_rng([int(number), k])) for k in range(_DRAWS)]
        for axis, one in zip(row, (original, *draws)):
            _draw(axis, items.finish(one))
        row[0].set_title(original.subject, fontsize=9, loc="left", parse_math=False)
    figure.suptitle(f"{title}: originals on the left; outlined {', '.join(items.labels)}", fontsize=9)
    return plotting.save(figure, path, dpi=110)[0]


def _draw(axis: Axes, item: Item) -> None:
    image, target = item.image[0], item.target
    if image.ndim == 3:
        place = int(target.sum(axis=(0, 1, 2)).argmax())
        image, target = image[..., place].T, target[..., place].transpose(0, 2, 1)
    outlines = [(label.T, plotting.PALETTE[(5, 4, 2, 3)[k % 4]], "-") for k, label in enumerate(target)]
    # Rows of a window go to anterior.
    limits = tuple(np.quantile(image, (0.005, 0.995)))
    plotting.slice_with_outlines(axis, image.T, outlines, limits=limits, linewidth=0.8)

"""The self-test of a network: a known image, and what the network must return for it."""

from pathlib import Path

import numpy as np

from sctseg7t.errors import ModelError
from sctseg7t.zoo.spec import AnyPath, ModelSpec


def known_image(wanted: dict) -> np.ndarray:
    """Return the image that an entry's ``test_input`` names.

    Parameters
    ----------
    wanted : dict
        ``{"name": "ripples", "shape": [1, 1, ...]}``: cos(i / 9) cos(j / 13) at row i, column j.
        ``{"name": "cord", "shape": ..., "spacing_mm": 0.25, "lesion": 0.3}``: a cord in its cerebrospinal
        fluid with bright gray matter, the first axis to the right, the same along a third axis; as a
        z-score. ``lesion``: brightness of a spot added to the white matter.

    Returns
    -------
    array of the shape, float32

    Raises
    ------
    ModelError
        No image of that name.
    """
    shape = tuple(wanted["shape"])
    if wanted["name"] == "ripples":
        rows, columns = np.ogrid[: shape[-2], : shape[-1]]
        image = np.cos(rows / 9) * np.cos(columns / 13)
    elif wanted["name"] == "cord":
        image = _cord(shape[2:], wanted["spacing_mm"], wanted.get("lesion", 0))
    else:
        raise ModelError(f"test_input: no image is called '{wanted['name']}'; there are: cord, ripples")
    return np.broadcast_to(image, shape).astype(np.float32)


def summary(maps: np.ndarray) -> dict[str, list[float]]:
    """Return mean, SD and maximum of each channel of (channels, ...) maps."""
    flat = np.asarray(maps, np.float64).reshape(len(maps), -1)
    numbers = {"mean": flat.mean(1), "sd": flat.std(1), "max": flat.max(1)}
    return {name: [round(float(value), 7) for value in values] for name, values in numbers.items()}


def check_network(path: AnyPath, spec: ModelSpec) -> None:
    """Run a network on its entry's test image and compare with its entry's ``test_output``.

    Raises
    ------
    ModelError
        It cannot run, its output differs by more than the tolerance, or the entry has nothing to compare with.
    """
    from sctseg7t.runtime import open_session

    if spec.test_input is None:
        raise ModelError(f"{spec.label}: its entry has no test_input to check the network with")
    maps = open_session(Path(path), "cpu").run(known_image(spec.test_input))[0]
    if not np.isfinite(maps).all():
        raise ModelError(f"{spec.label}: its network returns values that are no numbers")
    if len(maps) <= max(output.channel for output in spec.outputs):
        raise ModelError(f"{spec.label}: its network returns {len(maps)} maps, fewer than its entry lists")
    if spec.test_output is None:
        return
    found, wanted = summary(maps), spec.test_output
    for name in found.keys() & wanted.keys():
        far = np.abs(np.subtract(found[name], wanted[name])).max()
        if not far <= wanted["tolerance"]:
            raise ModelError(
                f"{spec.label}: its network is not the one of its entry: on the test image the {name} is "
                f"{found[name]}, expected {wanted[name]}"
            )


def _cord(size: tuple[int, ...], spacing_mm: float, lesion: float) -> np.ndarray:
    grids = np.ogrid[tuple(slice(n) for n in size)]
    x, y, *z = ((grid - (n - 1) / 2) * spacing_mm for grid, n in zip(grids, size))
    inside = _ellipse(x, y, 0, 0, 6.5, 4.5)
    gray = np.maximum.reduce(
        [_ellipse(x, y, -2, 0.3, 0.9, 2.6), _ellipse(x, y, 2, 0.3, 0.9, 2.6), _ellipse(x, y, 0, 0, 2, 0.6)]
    )
    image = 0.3 + 0.7 * _ellipse(x, y, 0, 0, 9, 7)
    image = image * (1 - inside) + 0.6 * inside
    image = image * (1 - gray) + 0.8 * gray
    if z:
        across = np.hypot(x - 3.2, y + 0.8)
        image = image + lesion * _ellipse(across, z[0], 0, 0, 2, 2.5)
    return (image - image.mean()) / image.std()


def _ellipse(x, y, centre_x, centre_y, radius_x, radius_y, edge_mm=0.3):
    """1 inside, 0 outside, with an edge that is the same on every machine and at every spacing."""
    radius = np.hypot((x - centre_x) / radius_x, (y - centre_y) / radius_y)
    return 1 / (1 + np.exp((radius - 1) * min(radius_x, radius_y) / edge_mm))

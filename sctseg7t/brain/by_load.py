"""Which voxels are lesions, by how much disease a scan shows: light loads are asked for more.

Of a scan with few lesions most of what is marked is false, of one with many most is true. So the limits follow the
load. They are data: ``by_load`` of an entry's output, fitted to patients whom the weights did not see.
"""

from dataclasses import dataclass

import numpy as np

from sctseg7t.measure.lesions import label_lesions
from sctseg7t.zoo.spec import OutputSpec


@dataclass(frozen=True)
class Limits:
    """What a lesion has to reach.

    Attributes
    ----------
    threshold : float
        Every voxel of it.
    peak : float
        At least one.
    """

    threshold: float
    peak: float


def fits(by_load: dict | None) -> bool:
    """Whether an entry's limits are whole: loads that rise, a threshold and a peak of each."""
    if by_load is None:
        return True
    loads = by_load["mL"]
    return loads == sorted(set(loads)) and len(loads) == len(by_load["threshold"]) == len(by_load["peak"])


def limits(load: float, output: OutputSpec) -> Limits:
    """The limits of a load: between those of the entry linear in its logarithm, and the nearest ones beyond.

    Parameters
    ----------
    load : float
        As :func:`load_mL` has it.
    output : OutputSpec
        ``by_load`` holds ``mL``, rising, and ``threshold`` and ``peak`` of each.
    """
    said = output.by_load or {}
    at = np.log(np.maximum([load, *said["mL"]], 1e-3))
    threshold, peak = (float(np.interp(at[0], at[1:], said[name])) for name in ("threshold", "peak"))
    return Limits(threshold, max(peak, threshold))


def load_mL(probability: np.ndarray, output: OutputSpec, voxel_mm3: float) -> float:
    """The load that the limits follow: of all voxels from the output's ``threshold`` on."""
    return np.count_nonzero(probability >= output.threshold) * voxel_mm3 / 1000


def lesions_within(probability: np.ndarray, asked: Limits) -> np.ndarray:
    """Mask (X, Y, Z) of what connects from the threshold on (26 neighbours) and holds a voxel from the peak on."""
    mask = probability >= asked.threshold
    labels = label_lesions(mask)
    reached = np.zeros(int(labels.max()) + 1, bool)
    reached[labels[probability >= asked.peak]] = True
    return mask & reached[labels]

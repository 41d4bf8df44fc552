"""Where a lesion lies: the location classes of the McDonald criteria, by maps of the anatomy."""

from dataclasses import dataclass

import numpy as np

from sctseg7t.measure.pairs import boundary

# Gaps still taken for contact, ours: a voxel of 1 mm for what registration misses; none at the cortex, which an
# average template has blurred, hence already wider than a person's.
VENTRICLE_MM = 1.0
CORTEX_MM = 0.0
# Share of a lesion's volume from which it is infratentorial.
_INFRATENTORIAL_SHARE = 0.5
# Float noise of an affine must not part what is exactly at the limit.
_SLACK_MM = 1e-4


@dataclass(frozen=True, eq=False)
class Regions:
    """Where the anatomy is that location classes go by, on the grid of the mask.

    Attributes
    ----------
    ventricles, cortex, infratentorial : (X, Y, Z) bool or float
        Lateral ventricles; cerebral cortex; brain stem and cerebellum. A float map holds fractions; a voxel
        belongs to the region from 0.5 on.
    source : str
        Where they come from, for records.
    doubts : tuple of str
        Flags of every lesion that is placed by them, as ``template_doubtful``.
    """

    ventricles: np.ndarray
    cortex: np.ndarray
    infratentorial: np.ndarray
    source: str = ""
    doubts: tuple[str, ...] = ()


def locate(voxels: np.ndarray, start: np.ndarray, linear: np.ndarray, regions: Regions | None) -> list[dict]:
    """Location class of each lesion, and the numbers it follows from.

    In this order: infratentorial, with at least half of the volume in that region; periventricular, in
    contact with the lateral ventricles; juxtacortical or cortical, in contact with the cortex or in it; else deep
    white matter. The criteria ask for direct contact, no white matter between (Thompson et al., Lancet Neurology
    2018, glossary; Filippi et al., Brain 2019).

    Parameters
    ----------
    voxels : (N, 3) int
        Sorted by lesion.
    start : (L,) int
        Where each lesion starts.
    linear : (3, 3) array
        Voxel to mm.
    regions : Regions or None

    Returns
    -------
    list of dict, one a lesion
        `location`, `distance_ventricles_mm`, `distance_cortex_mm` (gaps, 0 in contact, None for a region without
        voxels) and `infratentorial_fraction`; empty without regions.
    """
    if regions is None or not len(start):
        return [{}] * len(start)
    to_ventricles, to_cortex = (
        np.minimum.reduceat(_gaps_mm(_inside(region), voxels, linear), start)
        for region in (regions.ventricles, regions.cortex)
    )
    below = np.add.reduceat(_inside(regions.infratentorial)[tuple(voxels.T)].astype(float), start)
    below /= np.diff(start, append=len(voxels))
    near = (
        below >= _INFRATENTORIAL_SHARE,
        to_ventricles <= VENTRICLE_MM + _SLACK_MM,
        to_cortex <= CORTEX_MM + _SLACK_MM,
    )
    names = ("infratentorial", "periventricular", "juxtacortical_cortical")
    chosen = np.select(near, names, "deep_white_matter")
    return [
        {
            "location": str(location),
            "distance_ventricles_mm": float(ventricles) if np.isfinite(ventricles) else None,
            "distance_cortex_mm": float(cortex) if np.isfinite(cortex) else None,
            "infratentorial_fraction": float(share),
        }
        for location, ventricles, cortex, share in zip(chosen, to_ventricles, to_cortex, below)
    ]


def _gaps_mm(region, voxels, linear):
    """Gap between each voxel's box and a region's nearest one; 0 if they touch, inf if the region is empty.

    The boxes' gap is the distance of the voxel's centre from the region grown by one voxel every way.
    """
    from scipy.ndimage import binary_dilation
    from scipy.spatial import KDTree

    gaps = np.full(len(voxels), np.inf)
    if not region.any():
        return gaps
    grown = binary_dilation(region, np.ones((3, 3, 3)))
    touching = grown[tuple(voxels.T)]
    gaps[touching] = 0
    if not touching.all():
        tree = KDTree(np.argwhere(boundary(grown)) @ linear.T)
        gaps[~touching] = tree.query(voxels[~touching] @ linear.T)[0]
    return gaps


def _inside(region):
    region = np.asarray(region)
    return region if region.dtype == bool else region >= 0.5

"""Scan and rescan: the slices of two runs that lie at one height, and how a method's areas differ there."""

from collections import defaultdict

import numpy as np

from sctseg7t.compare.find import rescan_key
from sctseg7t.compare.names import STRUCTURES
from sctseg7t.compare.records import Repeatability
from sctseg7t.measure.statistics import scan_rescan_cov


def match_slices(first, second):
    """Slices of two scans that lie at one height, to half a slice.

    Heights are those of the slices' centres in scanner coordinates, along the normal of the first scan's slices.

    Parameters
    ----------
    first, second : (affine, shape)
        Canonical: (4, 4) array in mm, and (X, Y, Z).

    Returns
    -------
    (N, 2) int array
        Indices of the slices.
    """
    affine = np.asarray(first[0], float)
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal /= np.linalg.norm(normal)
    heights = []
    for other, (x, y, count) in (first, second):
        middle = np.array([[(x - 1) / 2, (y - 1) / 2, k, 1] for k in range(count)])
        heights.append((middle @ np.asarray(other, float).T)[:, :3] @ normal)
    apart = np.abs(heights[0][:, None] - heights[1])
    nearest = apart.argmin(1)
    step = abs(float(affine[:3, 2] @ normal))
    return np.array([(k, n) for k, n in enumerate(nearest) if apart[k, n] < step / 2], int).reshape(-1, 2)


def repeatability(cases, areas_mm2, grids):
    """Repeatability of every method's CSA over the sessions that were scanned twice.

    Runs belong together if all their entities but ``run`` are the same; of more than two the first two are used.
    Compared are the slices at one height in which both runs have the structure.

    Parameters
    ----------
    cases : sequence of Case
    areas_mm2 : dict of (case, method, structure) to (Z,) array
    grids : dict of str to Grid

    Returns
    -------
    tuple of Repeatability
    """
    sessions = defaultdict(list)
    for case in cases:
        if rescan_key(case) is not None and case.name in grids:
            sessions[rescan_key(case)].append(case)
    found = defaultdict(list)
    for runs in sessions.values():
        if len(runs) < 2:
            continue
        first, second = sorted(runs, key=lambda case: case.run)[:2]
        matched = match_slices(*((grids[case.name].affine, grids[case.name].shape) for case in (first, second)))
        for name, method, structure in areas_mm2:
            other = areas_mm2.get((second.name, method, structure))
            if name == first.name and other is not None:
                both = np.stack([areas_mm2[name, method, structure][matched[:, 0]], other[matched[:, 1]]])
                both = both[:, np.isfinite(both).all(0)]
                if both.size:
                    found[structure, method].append(both)
    return tuple(
        _repeatability(structure, method, pairs)
        for (structure, method), pairs in sorted(
            found.items(), key=lambda item: (STRUCTURES.index(item[0][0]), item[0])
        )
    )


def _repeatability(structure, method, pairs):
    means = np.array([pair.mean(1) for pair in pairs])
    return Repeatability(
        structure,
        method,
        scans=len(pairs),
        slices=int(sum(pair.shape[1] for pair in pairs)),
        scan_cov=scan_rescan_cov(*means.T),
        slice_cov=scan_rescan_cov(*np.concatenate(pairs, 1)),
    )

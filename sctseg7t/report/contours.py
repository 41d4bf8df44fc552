"""A mask's outline as an SVG path along voxel borders: filled, it is exactly the mask's voxels."""

import numpy as np

# Clockwise as seen on the screen (rows go down), so that a path keeps its mask on its right.
_RIGHT, _DOWN, _LEFT, _UP = (0, 1), (1, 0), (0, -1), (-1, 0)
_TURNS = {
    _RIGHT: (_DOWN, _RIGHT, _UP),
    _DOWN: (_LEFT, _DOWN, _RIGHT),
    _LEFT: (_UP, _LEFT, _DOWN),
    _UP: (_RIGHT, _UP, _LEFT),
}


def outline(mask: np.ndarray) -> str:
    """Trace the borders of a slice's mask.

    Parameters
    ----------
    mask : (rows, columns) bool array

    Returns
    -------
    str
        Closed subpaths of ``M``, ``h``, ``v`` and ``z`` in pixel units, the corner of pixel
        (row 0, column 0) at (0, 0); holes run the other way round. Empty for an empty mask.
    """
    edges = _edges(np.asarray(mask, bool))
    parts = []
    for start in sorted(edges):
        while edges.get(start):
            parts.append(_loop(edges, start))
    return "".join(parts)


def _edges(mask):
    """Border steps: corner to the directions that leave it."""
    padded = np.pad(mask, 1)
    here = padded[1:-1, 1:-1]
    steps = {
        _RIGHT: (here & ~padded[:-2, 1:-1], (0, 0)),
        _DOWN: (here & ~padded[1:-1, 2:], (0, 1)),
        _LEFT: (here & ~padded[2:, 1:-1], (1, 1)),
        _UP: (here & ~padded[1:-1, :-2], (1, 0)),
    }
    edges = {}
    for direction, (which, corner) in steps.items():
        for row, column in np.argwhere(which).tolist():
            edges.setdefault((row + corner[0], column + corner[1]), []).append(direction)
    return edges


def _loop(edges, start):
    at, direction = start, edges[start].pop()
    runs = []
    while True:
        if runs and runs[-1][0] == direction:
            runs[-1][1] += 1
        else:
            runs.append([direction, 1])
        at = (at[0] + direction[0], at[1] + direction[1])
        ways = edges[at]
        if at == start and not ways:
            break
        # Where four borders meet, turning right keeps pixels apart that share only a corner.
        following = next((way for way in _TURNS[direction] if way in ways), None)
        if following is None:
            break
        ways.remove(following)
        direction = following
    text = "".join(f"{'h' if d[1] else 'v'}{n * (d[0] + d[1])}" for d, n in runs)
    return f"M{start[1]} {start[0]}{text}z"

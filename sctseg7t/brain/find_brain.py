"""The brain found by a network that knows no contrast and no resolution, on one coarse grid over the whole scan."""

from dataclasses import dataclass

import numpy as np
from nibabel.affines import voxel_sizes

from sctseg7t.brain.isotropic_grid import grid_around, to_grid
from sctseg7t.brain.normalise import saturate
from sctseg7t.errors import ModelError
from sctseg7t.image.grid import resample
from sctseg7t.inference.segmenter import check_needs
from sctseg7t.runtime.maps import network_maps
from sctseg7t.runtime.session import Session
from sctseg7t.zoo.spec import ModelSpec

TASK = "brain_mask"


@dataclass(frozen=True, eq=False)
class BrainFinder:
    """A network that finds the brain: called with an image and its affine, it gives the mask.

    Attributes
    ----------
    session : Session
    spec : ModelSpec
        An entry of task ``brain_mask``.
    """

    session: Session
    spec: ModelSpec

    def __post_init__(self) -> None:
        given = self.spec.input
        needs = {
            "organ must be brain": self.spec.organ == "brain",
            "input.sampling.method must be volume": given.sampling.method == "volume",
            "input.spacing_mm must be the same along three axes": len(given.spacing_mm) == 3
            and len(set(given.spacing_mm)) == 1,
            "input.normalisation must be saturate": given.normalisation["name"] == "saturate",
            "input.channels must be one": len(given.channels or "1") == 1,
            "outputs must be one, with a threshold": len(self.spec.outputs) == 1
            and self.spec.outputs[0].threshold is not None,
        }
        check_needs(self.spec, needs)

    def __call__(self, data: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """The brain's mask: the largest piece, its holes filled.

        Parameters
        ----------
        data : (X, Y, Z) float array
        affine : (4, 4) array
            Canonical, mm.

        Returns
        -------
        (X, Y, Z) bool
            Ventricles and the fluid between gyri included; empty where there is no brain.
        """
        from scipy import ndimage

        threshold = self.spec.outputs[0].threshold
        assert threshold is not None
        mask = self.fraction(data, affine) >= threshold
        labels, count = ndimage.label(mask)
        if not count:
            return mask
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        return ndimage.binary_fill_holes(labels == sizes.argmax())

    def fraction(self, data: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Fraction of brain in each voxel, (X, Y, Z) float32; parameters as of the call."""
        given = self.spec.input
        # Along the scan's own axes: tilted thick slices would be stairs on a grid along the world's.
        own = np.diag([*voxel_sizes(affine), 1.0])
        grid = grid_around(np.broadcast_to(np.True_, data.shape), own, spacing_mm=given.spacing_mm[0], margin_mm=0.0)
        # The grid's border can lie beyond the scan.
        seen = to_grid(np.ones(data.shape, np.float32), own, grid) > 0.5
        image = saturate(to_grid(data, own, grid), seen)
        step = given.size_multiple or 1
        space = [(0, -n % step) for n in image.shape]
        maps = self._maps(np.pad(image, space)[None, None])
        found = maps[tuple(slice(n) for n in image.shape)]
        return resample(found, np.linalg.inv(grid.affine) @ own, data.shape, order=1, outside="nearest")

    def _maps(self, image):
        channel = self.spec.outputs[0].channel
        found = network_maps(image, self.session, self.spec)[0, channel]
        if self.spec.test_time.get("flip_lr"):
            mirrored = network_maps(image[:, :, ::-1].copy(), self.session, self.spec)[0, channel]
            found = (found + mirrored[::-1]) / 2
        return found


def open_finder(*, threads: int | None = None, offline: bool = False) -> BrainFinder | None:
    """The manifest's default network of the task; None where the manifest has none."""
    from sctseg7t.runtime.session import open_session
    from sctseg7t.zoo.manifest import load_manifest
    from sctseg7t.zoo.weights import weights

    try:
        spec = load_manifest().default_for_task(TASK)
    except ModelError:
        return None
    return BrainFinder(open_session(weights(spec, offline=offline), "cpu", threads), spec)

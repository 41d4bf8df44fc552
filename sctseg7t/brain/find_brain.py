"""The brain found by a network that knows no contrast and no resolution, on one coarse grid over the whole scan."""

from dataclasses import dataclass

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

from sctseg7t.brain.isotropic_grid import grid_around, to_grid
from sctseg7t.brain.mask import filled, largest
from sctseg7t.brain.normalise import normalise, saturate
from sctseg7t.image.grid import resample
from sctseg7t.inference.segmenter import check_needs
from sctseg7t.runtime.ensemble import Ensemble
from sctseg7t.runtime.maps import network_maps
from sctseg7t.runtime.session import Session
from sctseg7t.zoo.spec import ModelSpec

TASK = "brain_mask"
# Normalisations that need no mask.
_SCALES = ("saturate", "percentile")


@dataclass(frozen=True, eq=False)
class BrainFinder:
    """A network that finds the brain: called with an image and its affine, it gives the mask.

    Attributes
    ----------
    session : Session or Ensemble
    spec : ModelSpec
        An entry of task ``brain_mask``.
    """

    session: Session | Ensemble
    spec: ModelSpec

    def __post_init__(self) -> None:
        given = self.spec.input
        needs = {
            "organ must be brain": self.spec.organ == "brain",
            "input.sampling.method must be volume": given.sampling.method == "volume",
            "input.spacing_mm must be the same along three axes": len(given.spacing_mm) == 3
            and len(set(given.spacing_mm)) == 1,
            f"input.normalisation must be {' or '.join(_SCALES)}": given.normalisation["name"] in _SCALES,
            "input.orientation must name three ways": given.orientation != "native",
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
        threshold = self.spec.outputs[0].threshold
        assert threshold is not None
        return filled(largest(self.fraction(data, affine) >= threshold))

    def fraction(self, data: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Fraction of brain in each voxel, (X, Y, Z) float32; parameters as of the call.

        The mean over the entry's grids: its own spacing, and those of ``test_time.spacings_mm``.
        """
        spacings = (self.spec.input.spacing_mm[0], *self.spec.test_time.get("spacings_mm", ()))
        return np.mean([self._on_grid(data, affine, spacing_mm) for spacing_mm in spacings], axis=0)

    def _on_grid(self, data, affine, spacing_mm):
        # Along the scan's own axes: tilted thick slices would be stairs on a grid along the world's.
        own = np.diag([*voxel_sizes(affine), 1.0])
        grid = grid_around(np.broadcast_to(np.True_, data.shape), own, spacing_mm=spacing_mm, margin_mm=0.0)
        # The grid's border can lie beyond the scan.
        seen = to_grid(np.ones(data.shape, np.float32), own, grid) > 0.5
        image = _scaled(to_grid(data, own, grid), seen, self.spec.input.normalisation)
        step = self.spec.input.size_multiple or 1
        image = np.pad(image, [(0, -n % step) for n in image.shape])
        found = self._map(image)
        if self.spec.test_time.get("flip_lr"):
            found = (found + self._map(image[::-1])[::-1]) / 2
        found = found[tuple(slice(n) for n in grid.shape)]
        return resample(found, np.linalg.inv(grid.affine) @ own, data.shape, order=1, outside="nearest")

    def _map(self, image):
        """The network's map of an image, both (x, y, z) RAS+; the network gets it the way round that its entry says."""
        way = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(self.spec.input.orientation))
        turned = np.ascontiguousarray(apply_orientation(image, way))
        found = network_maps(turned[None, None], self.session, self.spec)[0, self.spec.outputs[0].channel]
        return apply_orientation(found, ornt_transform(axcodes2ornt(self.spec.input.orientation), axcodes2ornt("RAS")))


def _scaled(image, seen, how):
    """Intensities as the entry's normalisation wants them; an empty scan stays empty."""
    if how["name"] == "saturate":
        return saturate(image, seen)
    if not seen.any() or not np.ptp(image[seen]) > 0:
        return np.zeros_like(image)
    return normalise(image, seen, how["name"], how["parameters"])


def open_finder(model: str | None = None, *, threads: int | None = None, offline: bool = False) -> BrainFinder | None:
    """A network that finds brains: one of the manifest by name, else its default; None where it has none.

    Raises
    ------
    ModelError
        No model has that name, or it finds no brains.
    """
    from sctseg7t.runtime.session import open_session
    from sctseg7t.zoo.manifest import load_manifest
    from sctseg7t.zoo.weights import weights

    manifest = load_manifest()
    if model is None and TASK not in manifest.task_entries:
        return None
    spec = manifest.model(model) if model else manifest.default_for_task(TASK)
    return BrainFinder(open_session(weights(spec, offline=offline), "cpu", threads), spec)

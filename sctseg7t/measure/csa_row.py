"""One row of an area table: a tissue in a slice."""

from dataclasses import dataclass

# What the codes in a row's `reason` mean.
REASONS = {
    "empty": "no fraction of this tissue reaches 0.01 here: nothing is measured",
    "single_slice": "the centreline needs two slices: no angle, area not corrected, shape as seen in the slice",
    "angle_uncertain": "centroids too close together or too far away for an angle known to 6 degrees: as above",
    "no_centreline": "no centroid to fit a centreline to: as above",
    "centreline_from_GM": "no SC: the centreline is that of GM (nothing is null for this)",
    "centreline_from_WM": "no SC: the centreline is that of WM (nothing is null for this)",
    "centreline_from_GM+WM": "no SC: the centreline is that of GM + WM (nothing is null for this)",
    "shape_too_small": "less than three full pixels: no shape",
    "shape_degenerate": "a line of pixels: no shape",
    "shape_isotropic": "the shape has no longer axis: no orientation",
    "no_midline": "no cord in this slice, whose centroid would part it: no halves",
    "single_value": "one slice has no standard deviation",
    "no_value": "no slice of the group that enters a mean has this tissue",
}


@dataclass(frozen=True, kw_only=True)
class CsaRow:
    """One tissue in one slice: place, area and shape. None where unmeasured: `reason` says why (see REASONS).

    Diameters, eccentricity and orientation are those of the section perpendicular
    to the centreline wherever `area_corrected_mm2` exists, else of the slice.
    `angle_ap_deg` is the tilt of the centreline within the plane of the A-P axis and
    the slice normal (positive: leaning anterior going up), `angle_rl_deg` within that of
    the R-L axis (positive: leaning right). Halves are those of `area_mm2`, see :mod:`sctseg7t.measure.halves`.
    """

    tissue: str
    slice: int
    file_slice: int | None = None
    level: int | None = None
    z_mm: float | None = None
    distance_pmj_mm: float | None = None
    area_mm2: float | None = None
    area_corrected_mm2: float | None = None
    angle_ap_deg: float | None = None
    angle_rl_deg: float | None = None
    diameter_ap_mm: float | None = None
    diameter_rl_mm: float | None = None
    eccentricity: float | None = None
    orientation_deg: float | None = None
    solidity: float | None = None
    area_left_mm2: float | None = None
    area_right_mm2: float | None = None
    area_dorsal_mm2: float | None = None
    area_ventral_mm2: float | None = None
    asymmetry: float | None = None
    area_normalised_mm2: float | None = None
    length_mm: float | None = None
    gm_wm_contrast: float | None = None
    gm_wm_cnr: float | None = None
    spread: float | None = None
    reason: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

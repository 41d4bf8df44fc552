"""What every column of the cohort's tables means: (column, unit, meaning)."""

from sctseg7t.measure.csa import TISSUES
from sctseg7t.measure.lesion_location import LOCATIONS

_BEFORE = (
    ("subject", "", "subject, without sub-; empty outside BIDS"),
    ("session", "", "session, without ses-"),
    ("run", "", "run, without run-"),
)
_SCAN = ("scan", "", "name of the scan: its file in BIDS, else its path; the key that joins the tables")
_MEASURES = (
    ("area_mm2", "mm2", "cross-sectional area in the slice"),
    ("area_corrected_mm2", "mm2", "area times the cosine between slice normal and the cord's centre line (of SC)"),
    ("angle_ap_deg", "degree", "tilt of the centre line towards anterior, going up"),
    ("angle_rl_deg", "degree", "tilt of the centre line towards the right, going up"),
    ("diameter_ap_mm", "mm", "anterior-posterior diameter of the equivalent ellipse"),
    ("diameter_rl_mm", "mm", "right-left diameter of the equivalent ellipse"),
    ("eccentricity", "", "eccentricity of the equivalent ellipse, 0 to 1"),
    ("orientation_deg", "degree", "orientation of the longer axis to the right-left axis"),
    ("solidity", "", "area over that of the convex hull, 0 to 1"),
)
_AFTER = (("tool_version", "", "version of sctseg7t that measured"),)
_SLICE = (
    ("volume", "", "volume of a 4D scan, from 0; empty for 3D"),
    ("slice", "", "slice from 0, inferior to superior, whatever the file's storage order"),
    ("z_mm", "mm", "world coordinate of the slice along the superior axis"),
    ("level", "", "vertebral level; empty without -levels"),
    ("tissue", "", "SC, GM or WM"),
)
_WHY = ("reason", "", "codes, joined by ;, of why a cell is empty")
SLICES = (
    *_BEFORE,
    _SCAN,
    *_SLICE,
    *_MEASURES,
    ("length_mm", "mm", "length along the centre line that the slice stands for"),
    _WHY,
    ("flags", "", "doubts about the slice, joined by ;"),
    *_AFTER,
)
LEVELS = (
    *_BEFORE,
    _SCAN,
    _SLICE[0],
    ("level", "", "vertebral level, or all"),
    _SLICE[4],
    ("n_slices", "", "slices of the level"),
    ("n_averaged", "", "of these, slices in the means: neither empty nor cut by an edge"),
    ("length_mm", "mm", "length along the centre line"),
    *(
        (f"{name}_{statistic}", unit, f"{word} over the averaged slices: {text}")
        for name, unit, text in _MEASURES
        for statistic, word in (("mean", "mean"), ("sd", "standard deviation (n - 1)"))
    ),
    _WHY,
    *_AFTER,
)
_LESION = (
    ("id", "", "number of the lesion in the label map; 1 is the largest"),
    ("counted", "", "1 if it is in n_lesions, 0 if it is smaller than the limit"),
    ("n_voxels", "", "voxels of the scan"),
    ("volume_mm3", "mm3", "volume"),
    ("diameter_mm", "mm", "largest distance between corners of its voxels"),
    ("sphere_diameter_mm", "mm", "diameter of the sphere of its volume"),
    ("centroid_r_mm", "mm", "centroid in scanner coordinates, to the right"),
    ("centroid_a_mm", "mm", "centroid in scanner coordinates, to anterior"),
    ("centroid_s_mm", "mm", "centroid in scanner coordinates, to superior"),
    ("centroid_x_vox", "voxel", "centroid in voxels of the scan in RAS order, left to right"),
    ("centroid_y_vox", "voxel", "the same, posterior to anterior"),
    ("centroid_z_vox", "voxel", "the same, inferior to superior"),
    ("location", "", f"location class: {', '.join(LOCATIONS)}"),
    ("distance_ventricles_mm", "mm", "gap to the lateral ventricles, 0 in contact"),
    ("distance_cortex_mm", "mm", "gap to the cortex, 0 in contact"),
    ("infratentorial_fraction", "", "share of its volume in brain stem and cerebellum"),
    ("probability_max", "", "highest probability that the model gave one of its voxels"),
    ("probability_mean", "", "mean of these"),
)
LESIONS = (*_BEFORE, _SCAN, *_LESION, _WHY, ("flags", "", "doubts about the lesion, joined by ;"), *_AFTER)
_STATISTICS = (("mean", "mean"), ("min", "smallest"), ("max", "largest"))
_CORD_COUNTS = (
    ("n_slices", "", "slices, over all volumes"),
    (
        "n_averaged",
        "",
        "slices in the areas below: with SC (or the only tissue), and not cut by an edge of image or window",
    ),
    ("n_flagged", "", "slices with a flag on any tissue"),
)
_CORD_AREAS = (
    *(
        (f"{tissue.lower()}_{name}_{statistic}", "mm2", f"{tissue}: {word} {text}, over the averaged slices")
        for tissue in TISSUES
        for name, text in (("area_mm2", "area in the slice"), ("area_corrected_mm2", "angle-corrected area"))
        for statistic, word in _STATISTICS
    ),
    ("gm_sc_area_ratio", "", "GM area over SC area, each summed over the averaged slices that have both"),
)
LOAD = (
    ("n_lesions", "", "counted lesions: of at least min_diameter_mm; 0 where there are none"),
    ("n_small", "", "smaller ones, listed and not counted"),
    ("load_ml", "mL", "volume of all lesions, the smaller ones with them"),
    ("load_small_ml", "mL", "volume of the smaller ones"),
    *(
        column
        for name in LOCATIONS
        for column in (
            (f"n_{name}", "", f"counted lesions of location class {name}"),
            (f"{name}_ml", "mL", f"volume of all lesions of location class {name}"),
        )
    ),
    ("largest_volume_mm3", "mm3", "volume of the largest lesion; empty without lesions"),
    ("largest_diameter_mm", "mm", "largest diameter of any lesion; empty without lesions"),
    ("min_diameter_mm", "mm", "diameter from which a lesion is counted"),
    ("connectivity", "", "neighbours that belong to one lesion: 6, 18 or 26"),
    ("reason", "", "codes, joined by ;, of why a cell of the lesions is empty"),
)
_BRAIN = (*LOAD, ("brain_volume_ml", "mL", "volume of the brain mask; empty where the record has none"))
_STATE = (
    ("status", "", "ok or failed"),
    ("error_kind", "", "failed scans: input, crash, timeout or killed"),
    ("error", "", "failed scans: why, in words"),
)
_RUN = (
    ("n_warnings", "", "warnings in the scan's record"),
    ("warnings", "", "these warnings, joined by |"),
    ("model", "", "model and version"),
    ("model_sha256", "", "SHA-256 of its weights"),
    ("input_sha256", "", "SHA-256 of the scan's file"),
    ("device", "", "device of the run"),
    ("seconds", "s", "time that the scan took"),
    *_AFTER,
)


def scans(kinds):
    """Columns of the scan table.

    Parameters
    ----------
    kinds : collection of str
        Of the scans in it, ``cord`` and ``brain``: what only one of them has is left out without it.
    """
    cord, brain = "cord" in kinds, "brain" in kinds
    what = {(True, True): "slices or lesions", (False, True): "lesions"}.get((cord, brain), "slices")
    return (
        *_BEFORE,
        _SCAN,
        *_STATE,
        *(_CORD_COUNTS if cord else ()),
        ("flags", "", f"flags of the scan's {what}, joined by ;, each with its number of {what}"),
        *(_CORD_AREAS if cord else ()),
        *(_BRAIN if brain else ()),
        *_RUN,
    )


TABLES = {
    "cohort_slices": SLICES,
    "cohort_levels": LEVELS,
    "cohort_lesions": LESIONS,
    "cohort_scans": scans(("cord", "brain")),
}


def names(columns):
    """Names of columns, in order."""
    return [name for name, _, _ in columns]

"""What every column of the cohort's tables means: (column, unit, meaning)."""

from sctseg7t.measure.csa import TISSUES

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
_STATISTICS = (("mean", "mean"), ("min", "smallest"), ("max", "largest"))
SCANS = (
    *_BEFORE,
    _SCAN,
    ("status", "", "ok or failed"),
    ("error_kind", "", "failed scans: input, crash, timeout or killed"),
    ("error", "", "failed scans: why, in words"),
    ("n_slices", "", "slices, over all volumes"),
    (
        "n_averaged",
        "",
        "slices in the areas below: with SC (or the only tissue), and not cut by an edge of image or window",
    ),
    ("n_flagged", "", "slices with a flag on any tissue"),
    ("flags", "", "flags of the scan's slices, joined by ;, each with its number of slices"),
    *(
        (f"{tissue.lower()}_{name}_{statistic}", "mm2", f"{tissue}: {word} {text}, over the averaged slices")
        for tissue in TISSUES
        for name, text in (("area_mm2", "area in the slice"), ("area_corrected_mm2", "angle-corrected area"))
        for statistic, word in _STATISTICS
    ),
    ("gm_sc_area_ratio", "", "GM area over SC area, each summed over the averaged slices that have both"),
    ("n_warnings", "", "warnings in the scan's record"),
    ("warnings", "", "these warnings, joined by |"),
    ("model", "", "model and version"),
    ("model_sha256", "", "SHA-256 of its weights"),
    ("input_sha256", "", "SHA-256 of the scan's file"),
    ("device", "", "device of the run"),
    ("seconds", "s", "time that the scan took"),
    *_AFTER,
)
TABLES = {"cohort_slices": SLICES, "cohort_levels": LEVELS, "cohort_scans": SCANS}


def names(table):
    """Columns of a table, in order."""
    return [name for name, _, _ in TABLES[table]]

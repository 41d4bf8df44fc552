"""Every column of every table of measures, declared once: name, unit, decimals and meaning.

The writers, the dictionary of a cohort, its figures, the QC page and the documents go by this module. A new measure of
the cord is a value in :mod:`sctseg7t.measure.shape` or :mod:`sctseg7t.measure.csa` and one line in CSA_MEASURES.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from sctseg7t.measure.lesion_change import STATUSES

TISSUES = ("SC", "GM", "WM")
# Location classes of a lesion, see sctseg7t.measure.lesion_location.
LOCATIONS = ("periventricular", "juxtacortical_cortical", "infratentorial", "deep_white_matter")
_SYMBOLS = {"mm2": "mm²", "mm3": "mm³", "degree": "°"}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name : str
    unit : str
        Empty for what has none.
    description : str
    digits : int
        Decimals of a float in a file.
    label : str
        Short name in pictures and pages; empty: the measure is not drawn.
    page_digits : int or None
        Decimals on the QC page; None: not shown there.
    averaged : str
        What the scan table calls the measure, where it holds its mean, least and largest value; else empty.
    sct : str
        Name of the measure in tables of the Spinal Cord Toolbox; empty if it has none.
    to_sct : callable or None
        Makes its value of ours, where the two are not the same.
    """

    name: str
    unit: str = ""
    description: str = ""
    digits: int = 4
    label: str = ""
    page_digits: int | None = None
    averaged: str = ""
    sct: str = ""
    to_sct: Callable[[float], float] | None = None

    @property
    def title(self) -> str:
        """Label and unit: ``area, mm²``."""
        return f"{self.label}, {_SYMBOLS.get(self.unit, self.unit)}" if self.unit else self.label


def names(columns: Iterable[Column]) -> tuple[str, ...]:
    """Names of columns, in order."""
    return tuple(column.name for column in columns)


# --- the cord -------------------------------------------------------------------------

CSA_MEASURES = (
    Column(
        "area_mm2",
        "mm2",
        "cross-sectional area in the slice",
        label="area",
        page_digits=2,
        averaged="area in the slice",
    ),
    Column(
        "area_corrected_mm2",
        "mm2",
        "area times the cosine between slice normal and the cord's centre line (of SC)",
        label="corrected area",
        page_digits=2,
        averaged="angle-corrected area",
        sct="area",
    ),
    # SCT names the axis that the cord is turned about, we the direction that it leans to.
    Column(
        "angle_ap_deg",
        "degree",
        "tilt of the centre line towards anterior, going up",
        label="angle AP",
        page_digits=1,
        sct="angle_RL",
    ),
    Column(
        "angle_rl_deg",
        "degree",
        "tilt of the centre line towards the right, going up",
        label="angle RL",
        sct="angle_AP",
        to_sct=lambda angle: -angle,
    ),
    Column(
        "diameter_ap_mm",
        "mm",
        "anterior-posterior diameter of the equivalent ellipse",
        label="AP diameter",
        page_digits=1,
        sct="diameter_AP",
    ),
    Column(
        "diameter_rl_mm",
        "mm",
        "right-left diameter of the equivalent ellipse",
        label="RL diameter",
        page_digits=1,
        sct="diameter_RL",
    ),
    Column(
        "eccentricity",
        "",
        "eccentricity of the equivalent ellipse, 0 to 1",
        label="eccentricity",
        sct="eccentricity",
    ),
    Column(
        "orientation_deg",
        "degree",
        "orientation of the longer axis to the right-left axis",
        sct="orientation",
        to_sct=abs,
    ),
    Column(
        "solidity",
        "",
        "area over that of the convex hull, 0 to 1",
        label="solidity",
        page_digits=3,
        sct="solidity",
    ),
    Column("area_left_mm2", "mm2", "area in the slice, left of the cord's centroid"),
    Column("area_right_mm2", "mm2", "area in the slice, right of the cord's centroid; with the left it is area_mm2"),
    Column("area_dorsal_mm2", "mm2", "area in the slice, dorsal (posterior) to the cord's centroid"),
    Column("area_ventral_mm2", "mm2", "area in the slice, ventral to it; with the dorsal it is area_mm2"),
    Column("asymmetry", "", "(left - right) / (left + right) of these areas: 0 if equal, above 0 if left is larger"),
    Column("area_normalised_mm2", "mm2", "corrected area, normalised for predictors of the person; empty without them"),
)
# What an image shows under the masks; on the rows of GM.
IMAGE_MEASURES = (
    Column(
        "gm_wm_contrast",
        "",
        "contrast of GM against WM in the image: (GM - WM) over the smaller, medians without borders; negative where "
        "GM is darker; on the rows of GM",
        label="GM/WM contrast",
        page_digits=2,
    ),
    Column(
        "gm_wm_cnr",
        "",
        "the same difference over the SD of the noise in WM, its smooth field removed; empty where there is no noise",
        label="GM/WM CNR",
        page_digits=1,
    ),
)
# How far what networks said lies apart; on the rows of their own outputs.
SPREAD = Column(
    "spread",
    "",
    "sum of the uncertainty map over that of the fractions: how far networks, or a network about a scan and its mirror "
    "image, disagree; 0 if not at all; empty unless asked for, and for corrected masks and what is derived",
    label="spread",
    page_digits=3,
)
_FILE = Column("filename", description="the scan as it was given; in SCT's columns, the mask of the tissue")
_VOLUME = Column("volume", description="volume of a 4D scan, from 0; empty for 3D")
_TISSUE = Column("tissue", description="SC, GM or WM")
_REASON = Column("reason", description="codes, joined by ;, of why a cell is empty")
_CORRECTED = Column("corrected", description="tissues of the scan whose mask somebody corrected, joined by ;")
_TOOL = Column("tool_version", description="version of sctseg7t that measured")
CSA_COLUMNS = (
    _FILE,
    _VOLUME,
    Column("slice", description="slice from 0, inferior to superior, whatever the file's storage order"),
    Column("file_slice", description="the same slice's index in the file along its slice axis, as FSLeyes shows it"),
    Column("z_mm", "mm", "world coordinate of the slice along the superior axis"),
    Column("level", description="vertebral level; empty without vertebral labels"),
    Column("distance_pmj_mm", "mm", "distance along the cord to the pontomedullary junction; empty without its label"),
    _TISSUE,
    *CSA_MEASURES,
    Column("length_mm", "mm", "length along the centre line that the slice stands for"),
    *IMAGE_MEASURES,
    SPREAD,
    _REASON,
    Column("flags", description="doubts about the slice, joined by ;"),
    _CORRECTED,
    _TOOL,
)
LEVEL_COLUMNS = (
    _FILE,
    _VOLUME,
    Column("level", description="vertebral level, or all"),
    _TISSUE,
    Column("n_slices", description="slices of the level"),
    Column(
        "n_averaged",
        description="of these, slices in the means: neither empty, nor cut by an edge, nor past the cord's end",
    ),
    Column("slices", description="the averaged slices, such as 3:5;7"),
    Column("length_mm", "mm", "length along the centre line"),
    *(
        Column(f"{own.name}_{statistic}", own.unit, f"{word} over the averaged slices: {own.description}", own.digits)
        for own in CSA_MEASURES
        for statistic, word in (("mean", "mean"), ("sd", "standard deviation (n - 1)"))
    ),
    _REASON,
    _CORRECTED,
    _TOOL,
)
# SCT has the area first, then by name.
SCT_MEASURES = sorted((own for own in CSA_MEASURES if own.sct), key=lambda own: (own.sct != "area", own.sct))
SCT_COLUMNS = (
    *map(Column, ("Timestamp", "SCT Version", "Filename", "Slice (I->S)", "VertLevel", "DistancePMJ")),
    *(
        Column(f"{statistic}({own.sct})", own.unit, own.description, own.digits)
        for own in SCT_MEASURES
        for statistic in ("MEAN", "STD")
    ),
    Column("SUM(length)", "mm"),
)

# --- lesions --------------------------------------------------------------------------

LESION_COLUMNS = (
    _FILE,
    Column("id", description="number of the lesion in the label map; 1 is the largest"),
    Column("counted", description="1 if it is in n_lesions, 0 if it is smaller than the limit"),
    Column("n_voxels", description="voxels of the scan"),
    Column("volume_mm3", "mm3", "volume"),
    Column("diameter_mm", "mm", "largest distance between corners of its voxels"),
    Column("sphere_diameter_mm", "mm", "diameter of the sphere of its volume"),
    Column("centroid_r_mm", "mm", "centroid in scanner coordinates, to the right"),
    Column("centroid_a_mm", "mm", "centroid in scanner coordinates, to anterior"),
    Column("centroid_s_mm", "mm", "centroid in scanner coordinates, to superior"),
    Column("centroid_x_vox", "voxel", "centroid in voxels of the scan in RAS order, left to right"),
    Column("centroid_y_vox", "voxel", "the same, posterior to anterior"),
    Column("centroid_z_vox", "voxel", "the same, inferior to superior"),
    Column("location", description=f"location class: {', '.join(LOCATIONS)}"),
    Column("distance_ventricles_mm", "mm", "gap to the lateral ventricles, 0 in contact"),
    Column("distance_cortex_mm", "mm", "gap to the cortex, 0 in contact"),
    Column("infratentorial_fraction", "", "share of its volume in brain stem and cerebellum"),
    Column("probability_max", "", "highest probability that the model gave one of its voxels"),
    Column("probability_mean", "", "mean of these"),
    Column("spread", "", "mean of the uncertainty map over its voxels; empty unless asked for, and if corrected"),
    _REASON,
    Column("flags", description="doubts about the lesion, joined by ;"),
    _CORRECTED,
    _TOOL,
)
_LOAD = (
    Column("n_lesions", "", "counted lesions: of at least min_diameter_mm; 0 where there are none", label="lesions"),
    Column("n_small", description="smaller ones, listed and not counted"),
    Column("load_ml", "mL", "volume of all lesions, the smaller ones with them", label="lesion load"),
    Column("load_small_ml", "mL", "volume of the smaller ones"),
    *(
        column
        for name in LOCATIONS
        for column in (
            Column(f"n_{name}", "", f"counted lesions of location class {name}"),
            Column(f"{name}_ml", "mL", f"volume of all lesions of location class {name}"),
        )
    ),
    Column("largest_volume_mm3", "mm3", "volume of the largest lesion; empty without lesions"),
    Column("largest_diameter_mm", "mm", "largest diameter of any lesion; empty without lesions"),
    Column("min_diameter_mm", "mm", "diameter from which a lesion is counted"),
    Column("connectivity", description="neighbours that belong to one lesion: 6, 18 or 26"),
    Column("reason", description="codes, joined by ;, of why a cell of the lesions is empty"),
)
LOAD_COLUMNS = (_FILE, *_LOAD, Column("flags", description="flags of its lesions, joined by ;"), _CORRECTED, _TOOL)

# --- follow-ups ---------------------------------------------------------------------------

NEW_LESION_COLUMNS = (
    _FILE,
    Column("id", description="number in the map of new lesions; 1 is the largest"),
    Column("kind", description="new: no lesion was there or beside it; grown: gained by a lesion of the baseline"),
    Column("first_seen", description="session of the scan that shows it first, else that scan's file"),
    Column("change", "", "mean change of intensity since the baseline, in medians of the brain"),
    *(column for column in LESION_COLUMNS if column.name not in ("filename", "id", "corrected")),
)
CHANGE_COLUMNS = (
    _FILE,
    Column("id", description="number of the lesion, of either time; 1 is the largest"),
    Column("status", description=f"{', '.join(STATUSES[:-1])} or {STATUSES[-1]}"),
    Column("volume_before_mm3", "mm3", "volume at the baseline, 0 if new"),
    Column("volume_now_mm3", "mm3", "volume at the follow-up, 0 if vanished"),
    Column("growth", "", "relative change of volume, by the lesion's signal; empty if it is new or has vanished"),
    Column("grown_mm3", "mm3", "volume that it has gained"),
    Column("shrunk_mm3", "mm3", "volume that it has lost"),
    Column("stable_mm3", "mm3", "volume that it has at both times"),
    Column("change", "", "mean change of intensity over the lesion of either time, in medians of the brain"),
    Column("centroid_r_mm", "mm", "centre in the follow-up's scanner coordinates, to the right"),
    Column("centroid_a_mm", "mm", "the same, to anterior"),
    Column("centroid_s_mm", "mm", "the same, to superior"),
    _TOOL,
)
_FOLLOWUP = (
    Column("n_new", "", "new lesions of at least 3 mm; 0 where nothing is new", label="new lesions"),
    Column("n_new_small", description="smaller new ones, listed and not counted"),
    Column("new_ml", "mL", "volume of all new lesions"),
    Column("n_enlarging", description="places where a lesion of the baseline has grown"),
    Column("enlarging_ml", "mL", "volume that was gained there"),
    Column("more_than_2_new", description="1 if n_new is more than 2, as the Rio score asks; else 0"),
    Column("more_than_4_new", description="1 if n_new is more than 4, as the modified Rio score asks; else 0"),
    *(Column(f"n_lesions_{status}", description=f"lesions of either time that are {status}") for status in STATUSES),
    Column("grown_ml", "mL", "volume that lesions of both times have gained"),
    Column("shrunk_ml", "mL", "volume that lesions of both times have lost"),
    Column("stable_ml", "mL", "volume that lesions have at both times"),
    Column("vanished_ml", "mL", "volume of lesions that have vanished"),
    Column("load_before_ml", "mL", "volume of all lesions at the baseline"),
    Column("load_now_ml", "mL", "the same at the follow-up"),
    Column("baseline", description="the earlier scan"),
    Column("turn_deg", "degree", "by how much the head has turned between the scans"),
    Column("shift_mm", "mm", "by how much it has moved"),
    Column("disagreement_mm", "mm", "largest distance between both ways of aligning the scans"),
    Column("overlap", "", "share of the smaller brain that both scans see"),
    Column("likeness", "", "correlation of the aligned scans over the brain"),
    Column("noise", "", "robust SD of their difference, in medians of the brain"),
    Column("pair_warnings", description="doubts about the pair, as codes joined by ;"),
)
FOLLOWUP_COLUMNS = (_FILE, *_FOLLOWUP, _TOOL)

# --- cohorts --------------------------------------------------------------------------

WHO_COLUMNS = (
    Column("participant_id", description="subject as in participants.tsv: sub-01; empty outside BIDS"),
    Column("session_id", description="session as in sessions.tsv: ses-1"),
    Column("run", description="run, as in the scan's name: run-1"),
)
_SCAN = Column("scan", description="name of the scan: its file in BIDS, else its path; the key that joins the tables")
_CORD_COUNTS = (
    Column("n_slices", description="slices, over all volumes"),
    Column(
        "n_averaged",
        "",
        "slices in the areas below: with SC (or the only tissue), not cut by an edge of image or window, not past the "
        "cord's end",
    ),
    Column("n_flagged", description="slices with a flag on any tissue"),
)
_LEFT_OUT = (Column("left_out", description="slices that the areas leave out, by the flag that they have for it"),)
_CORD_AREAS = (
    *(
        Column(
            f"{tissue.lower()}_{own.name}_{statistic}",
            own.unit,
            f"{tissue}: {word} {own.averaged}, over the averaged slices",
            own.digits,
        )
        for tissue in TISSUES
        for own in CSA_MEASURES
        if own.averaged
        for statistic, word in (("mean", "mean"), ("min", "smallest"), ("max", "largest"))
    ),
    Column("gm_sc_area_ratio", "", "GM area over SC area, each summed over the averaged slices that have both"),
    *(
        Column(f"{own.name}_mean", own.unit, f"mean over the averaged slices: {own.description}", own.digits)
        for own in IMAGE_MEASURES
    ),
)
_STATE = (
    Column("status", description="ok, nothing_found (the masks are empty) or failed"),
    Column("error_kind", description="failed scans: input, output, memory, internal, timeout or killed"),
    Column("error", description="scans without masks, or with empty ones: why, in words"),
    _CORRECTED,
)
_RUN = (
    Column("n_warnings", description="warnings in the scan's record"),
    Column("warnings", description="these warnings, joined by |"),
    Column("model", description="model and version"),
    Column("model_sha256", description="SHA-256 of its weights"),
    Column("input_sha256", description="SHA-256 of the scan's file"),
    Column("device", description="device of the run"),
    Column("seconds", "s", "time that the scan took"),
    _TOOL,
)


def scan_columns(kinds: Collection[str]) -> tuple[Column, ...]:
    """Columns of a cohort's scan table.

    Parameters
    ----------
    kinds : collection of str
        Of the scans in it, ``cord``, ``brain`` and ``followup``: what only one of them has is left out without it.
    """
    cord, brain = "cord" in kinds, "brain" in kinds
    what = {(True, True): "slices or lesions", (False, True): "lesions"}.get((cord, brain), "slices")
    volume = Column("brain_volume_ml", "mL", "volume of the brain mask; empty where the record has none")
    return (
        *WHO_COLUMNS,
        _SCAN,
        *_STATE,
        *(_CORD_COUNTS if cord else ()),
        Column("flags", description=f"flags of the scan's {what}, joined by ;, each with its number of {what}"),
        *(_LEFT_OUT if cord else ()),
        *(_CORD_AREAS if cord else ()),
        *((*_LOAD, volume) if brain else ()),
        *(_FOLLOWUP if "followup" in kinds else ()),
        *_RUN,
    )


COHORT_TABLES = {
    "cohort_slices": (*WHO_COLUMNS, _SCAN, *CSA_COLUMNS[1:]),
    "cohort_levels": (*WHO_COLUMNS, _SCAN, *LEVEL_COLUMNS[1:]),
    "cohort_lesions": (*WHO_COLUMNS, _SCAN, *LESION_COLUMNS[1:]),
    "cohort_newlesions": (*WHO_COLUMNS, _SCAN, *NEW_LESION_COLUMNS[1:]),
    "cohort_lesionchanges": (*WHO_COLUMNS, _SCAN, *CHANGE_COLUMNS[1:]),
    "cohort_scans": scan_columns(("cord", "brain", "followup")),
}
RATING_COLUMNS = (
    Column("verdict", description="of the QC page: pass, fail or artefact; of several raters joined by ;"),
    Column("grade", description="quality on the QC page, 1 bad to 4 good; of several raters joined by ;"),
    Column("rater", description="who rated, in the order of verdict and grade"),
)
DICTIONARY_COLUMNS = (
    Column("table", description="file"),
    Column("column"),
    Column("unit"),
    Column("description"),
)

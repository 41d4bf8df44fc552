"""What the report calls things: measures with their units and definitions, numbers with sensible digits."""

import math
import re
from dataclasses import dataclass

STRUCTURES = {"SC": "spinal cord", "GM": "gray matter", "WM": "white matter", "LESION": "lesions"}
OUTLIERS = {"dice": "Dice", "missing": "missing", "extra": "extra"}
NONE = "-"


@dataclass(frozen=True)
class Metric:
    """A measure of the report.

    Attributes
    ----------
    key : str
        Field of ``Agreement``, or name in ``Row.voxels``.
    label, unit : str
    digits : int
        After the point.
    better : str
        ``high``, ``low`` or ``zero``.
    definition : str
    """

    key: str
    label: str
    unit: str
    digits: int
    better: str
    definition: str

    @property
    def header(self):
        return f"{self.label} ({self.unit})" if self.unit else self.label


METRICS = (
    Metric("dice", "Dice", "", 3, "high", "2 TP / (2 TP + FP + FN): overlap, 0 to 1 (Dice 1945)."),
    Metric("jaccard", "Jaccard", "", 3, "high", "TP / (TP + FP + FN): intersection over union (Jaccard 1912)."),
    Metric("sensitivity", "Sensitivity", "", 3, "high", "TP / (TP + FN): share of the other mask that is covered."),
    Metric("precision", "Precision", "", 3, "high", "TP / (TP + FP): share of the method's mask that is right."),
    Metric(
        "hausdorff95_mm",
        "HD95",
        "mm",
        2,
        "low",
        "95th percentile of the distances between the two surfaces, the larger of the two directions "
        "(Metrics Reloaded, Maier-Hein, Reinke et al., Nature Methods 2024).",
    ),
    Metric("hausdorff_mm", "Hausdorff", "mm", 2, "low", "Largest distance from one surface to the other."),
    Metric(
        "assd_mm",
        "ASSD",
        "mm",
        3,
        "low",
        "Average symmetric surface distance: mean over both surfaces (Heimann et al., IEEE Trans Med Imaging 2009).",
    ),
    Metric(
        "normalised_surface_dice",
        "NSD",
        "",
        3,
        "high",
        "Share of both surfaces within the tolerance of the other (Nikolov et al., J Med Internet Res 2021).",
    ),
    Metric(
        "size_difference",
        "CSA difference",
        "mm²",
        2,
        "zero",
        "Area of the method's mask minus that of the mask it is compared with, in a slice.",
    ),
    Metric(
        "size_difference_percent",
        "CSA difference",
        "%",
        1,
        "zero",
        "The same as a percentage of the other mask's area.",
    ),
    Metric("csa_mm2", "CSA", "mm²", 2, "zero", "Area of a mask in a slice: voxels counted, times their area."),
    Metric(
        "HDRFDST",
        "HDRFDST",
        "voxel",
        3,
        "low",
        "Hausdorff distance between all voxels of the masks, in voxels (Taha and Hanbury, BMC Med Imaging 2015).",
    ),
    Metric(
        "AVGDIST_max",
        "AVGDIST, max",
        "voxel",
        3,
        "low",
        "Average Hausdorff distance: each direction averaged over all voxels of its mask, the larger of the two, "
        "as Taha and Hanbury 2015 define it.",
    ),
    Metric(
        "AVGDIST_mean",
        "AVGDIST, mean",
        "voxel",
        3,
        "low",
        "The same with the mean of the two directions, as their program EvaluateSegmentation computes it.",
    ),
    Metric(
        "VOLSMTY",
        "VOLSMTY",
        "",
        3,
        "high",
        "Volumetric similarity, 1 - |FN - FP| / (2 TP + FN + FP): of sizes only, not of place (Taha and Hanbury 2015).",
    ),
    Metric("hausdorff_all_mm", "HDRFDST", "mm", 2, "low", "HDRFDST in mm."),
    Metric("average_hausdorff_max_mm", "AVGDIST, max", "mm", 3, "low", "AVGDIST, max, in mm."),
    Metric("average_hausdorff_mean_mm", "AVGDIST, mean", "mm", 3, "low", "AVGDIST, mean, in mm."),
)
BY_KEY = {metric.key: metric for metric in METRICS}
_BARE = {re.sub(r"_mm2?$", "", metric.key.lower()): metric.key for metric in reversed(METRICS)}
_ALIASES = {
    "hd95": "hausdorff95_mm",
    "nsd": "normalised_surface_dice",
    "volumetric_similarity": "VOLSMTY",
    "csa_difference": "size_difference",
    "area_difference": "size_difference",
}


def metric_named(name, unit=""):
    """The measure that a table calls so; None where the report has no such measure."""
    bare = re.sub(r"_(mm2|mm3|mm|voxels?|vox|percent)$", "", name.lower().replace(" ", "_"))
    key = name if name in BY_KEY else _ALIASES.get(bare) or _BARE.get(bare)
    if key == "size_difference" and (unit == "%" or name.lower().endswith("percent")):
        key = "size_difference_percent"
    return BY_KEY.get(key)


def value_of(row, key):
    """A measure of a Row, as float."""
    found = row.voxels.get(key) if key in row.voxels else getattr(row.agreement, key, None)
    return math.nan if found is None else float(found)


def number(value, digits=2):
    """A number for people: "-" where it is not defined, never "-0.00"."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def signed(value, digits=2):
    """A difference: with its sign."""
    text = number(value, digits)
    return f"+{text}" if text[0].isdigit() and float(text) else text


def interval(low, high, digits=2):
    """``low to high``, or "-"."""
    if any(v is None or math.isnan(v) for v in (low, high)):
        return NONE
    return f"{number(low, digits)} to {number(high, digits)}"


def p_text(p):
    """A p value: ``< 0.001`` below that."""
    if p is None or math.isnan(p):
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(n, thing):
    """``1 scan``, ``3 scans``."""
    plural = thing[:-1] + "ies" if thing.endswith("y") else thing + "s"
    return f"{n} {thing if n == 1 else plural}"


def listed(words):
    """``a``, ``a and b``, ``a, b and c``."""
    words = [str(word) for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

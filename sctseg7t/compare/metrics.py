"""Every metric of the comparison, declared once: tables, tests, figures and texts all derive from this list."""

from dataclasses import dataclass

from sctseg7t.compare.types import LESION


@dataclass(frozen=True)
class Metric:
    """A number that two masks are compared by.

    Attributes
    ----------
    key : str
        In the long table.
    label : str
        In the report.
    unit : str
        ``mm``, ``mm2``, ``voxel``, ``%``, ``mL`` or ``""``. Of slices; areas are volumes in mm3 elsewhere.
    digits : int
        After the point, in the report.
    better : str
        ``high``, ``low`` or ``zero``; ``""`` for a size or a count.
    definition : str
        For the report's method section; a metric without one is in the CSV tables only.
    column : str
        In the wide CSV tables, where not the key. ``{size}`` is csa or volume, ``{unit}`` mm2 or mm3.
    summarised : bool
        Whether it is averaged.
    headline : bool
        Whether it is in the report's first tables, besides the summary of whole scans.
    tested : bool
        Whether methods are tested on it.
    plot : str
        ``main``, ``study`` (folded away, as in the 2021 study) or ``""``.
    """

    key: str
    label: str
    unit: str = ""
    digits: int = 3
    better: str = ""
    definition: str = ""
    column: str = ""
    summarised: bool = True
    headline: bool = False
    tested: bool = False
    plot: str = ""

    @property
    def is_distance(self) -> bool:
        """Whether it is infinite where one of the masks is empty."""
        return self.unit in ("mm", "voxel")

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and largest value that it can have."""
        return {"high": (0.0, 1.0), "low": (0.0, float("inf"))}.get(self.better, (-float("inf"), float("inf")))

    def unit_at(self, level: str) -> str:
        """The unit at a level: sizes are mm2 in slices and mm3 in 3D."""
        return "mm3" if self.unit == "mm2" and level != "slice" else self.unit

    def column_at(self, level: str) -> str:
        """Its column in the wide table of a level."""
        size = "csa" if level == "slice" else "volume"
        return (self.column or self.key).format(size=size, unit=self.unit_at(level))

    def header(self, level: str = "slice") -> str:
        """Label and unit, for people."""
        unit = self.unit_at(level)
        label = self.label.replace("CSA", "Volume") if unit == "mm3" else self.label
        return f"{label} ({pretty(unit)})" if unit else label


def pretty(unit: str) -> str:
    """A unit for people."""
    return unit.replace("mm2", "mm²").replace("mm3", "mm³")


# In the order of the tables.
TISSUE = (
    Metric(
        "dice",
        "Dice",
        better="high",
        definition="2 TP / (2 TP + FP + FN): overlap, 0 to 1 (Dice 1945).",
        headline=True,
        tested=True,
        plot="main",
    ),
    Metric(
        "jaccard", "Jaccard", better="high", definition="TP / (TP + FP + FN): intersection over union (Jaccard 1912)."
    ),
    Metric(
        "sensitivity",
        "Sensitivity",
        better="high",
        definition="TP / (TP + FN): share of the other mask that is covered.",
    ),
    Metric(
        "precision",
        "Precision",
        better="high",
        definition="TP / (TP + FP): share of the method's mask that is right.",
    ),
    # In the report under the study's name, VOLSMTY.
    Metric("volumetric_similarity", "VOLSMTY", better="high", tested=True),
    Metric(
        "hausdorff_mm",
        "Hausdorff",
        "mm",
        2,
        "low",
        "Largest distance from one surface to the other.",
        tested=True,
    ),
    Metric("hausdorff_all_mm", "HDRFDST", "mm", 2, "low", summarised=False),
    Metric(
        "hausdorff95_mm",
        "HD95",
        "mm",
        2,
        "low",
        "95th percentile of the distances between the two surfaces, the larger of the two directions "
        "(Metrics Reloaded, Maier-Hein, Reinke et al., Nature Methods 2024).",
        headline=True,
        plot="main",
    ),
    Metric(
        "assd_mm",
        "ASSD",
        "mm",
        3,
        "low",
        "Average symmetric surface distance: mean over both surfaces (Heimann et al., IEEE Trans Med Imaging 2009).",
        headline=True,
        plot="main",
    ),
    Metric("average_hausdorff_max_mm", "AVGDIST, max", "mm", 3, "low", "AVGDIST, max, in mm.", tested=True),
    Metric("average_hausdorff_mean_mm", "AVGDIST, mean", "mm", 3, "low", "AVGDIST, mean, in mm."),
    Metric(
        "normalised_surface_dice",
        "NSD",
        better="high",
        definition="Share of both surfaces within the tolerance of the other (Nikolov et al., JMIR 2021).",
    ),
    Metric("size_method", "CSA", "mm2", 2, column="{size}_method_{unit}", summarised=False),
    Metric("size_against", "CSA of the other", "mm2", 2, column="{size}_against_{unit}", summarised=False),
    Metric(
        "size_difference",
        "CSA difference",
        "mm2",
        2,
        "zero",
        "Area of the method's mask minus that of the mask it is compared with, in a slice; in 3D the volumes.",
        column="{size}_difference_{unit}",
        headline=True,
        plot="main",
    ),
    Metric(
        "size_error",
        "CSA error",
        "mm2",
        2,
        "low",
        "The same without its sign: differences of opposite sign do not cancel.",
        column="{size}_error_{unit}",
        headline=True,
        tested=True,
    ),
    Metric(
        "size_difference_percent",
        "CSA difference",
        "%",
        1,
        "zero",
        "The difference as a percentage of the other mask's area; not defined where that is empty. Biases and limits "
        "of agreement in percent are of these.",
        column="{size}_difference_percent",
        headline=True,
    ),
    Metric(
        "HDRFDST",
        "HDRFDST",
        "voxel",
        3,
        "low",
        "Hausdorff distance between all voxels of the masks, in voxels (Taha and Hanbury, BMC Med Imaging 2015).",
        column="HDRFDST_voxel",
        headline=True,
        plot="study",
    ),
    Metric(
        "AVGDIST_max",
        "AVGDIST, max",
        "voxel",
        3,
        "low",
        "Average Hausdorff distance: each direction averaged over all voxels of its mask, the larger of the two, "
        "as Taha and Hanbury 2015 define it.",
        column="AVGDIST_max_voxel",
        headline=True,
        plot="study",
    ),
    Metric(
        "AVGDIST_mean",
        "AVGDIST, mean",
        "voxel",
        3,
        "low",
        "The same with the mean of the two directions, as their program EvaluateSegmentation computes it.",
        column="AVGDIST_mean_voxel",
        headline=True,
    ),
    Metric(
        "VOLSMTY",
        "VOLSMTY",
        "",
        3,
        "high",
        "Volumetric similarity, 1 - |FN - FP| / (2 TP + FN + FP): of sizes only, not of place (Taha and Hanbury 2015).",
        headline=True,
        plot="study",
    ),
)
# Of one mask alone.
AREA = Metric("area_mm2", "CSA", "mm2", 2)
LOAD = Metric("load_ml", "Load", "mL", 3)

# Of lesions in a scan; counts are added over scans, the others averaged.
COUNTS = ("n_against", "n_method", "tp_against", "tp_method", "fn", "fp", "merged", "split")
LESIONS = (
    *(Metric(key, key, digits=0, summarised=False) for key in COUNTS),
    Metric("sensitivity", "Sensitivity", better="high"),
    Metric("precision", "Precision", better="high"),
    Metric("f1", "F1", better="high", tested=True, plot="main"),
    Metric("dice", "Dice", better="high", tested=True, plot="main"),
    Metric("dice_matched", "Dice of matched", better="high"),
    Metric("load_against_ml", "Load of the other", "mL", 2, summarised=False),
    Metric("load_method_ml", "Load", "mL", 2, summarised=False),
    Metric("volume_difference_ml", "Volume difference", "mL", 2, "zero"),
    Metric("volume_difference_percent", "Volume difference", "%", 1, "zero"),
)
# Detection by the lesions' own size: lesions of the other mask, found ones, of the method's mask, false ones.
BY_SIZE = ("n_against", "tp_against", "n_method", "fp")
# Of a lesion without counterpart. `id` is that of measure.lesions.label_lesions: 1 is the largest of its mask; slices
# are axial, counted from inferior, and `slice` has most of the lesion.
ITEMS = (
    "id",
    "n_voxels",
    "volume_mm3",
    "diameter_mm",
    "centroid_r_mm",
    "centroid_a_mm",
    "centroid_s_mm",
    "slice",
    "first_slice",
    "last_slice",
)


def metrics_of(structure: str) -> tuple[Metric, ...]:
    """The metrics of a structure's masks."""
    return LESIONS if structure == LESION else TISSUE


def primary_of(structure: str, primary: str) -> str:
    """The measure whose tests are corrected: the one that is wanted, else Dice, which every structure has."""
    return primary if primary in tested_names(structure) else "dice"


def tested_names(structure: str) -> tuple[str, ...]:
    """Measures of a structure by which one method can be better than another."""
    return tuple(metric.key for metric in metrics_of(structure) if metric.better in ("high", "low"))


def metric_named(structure: str, key: str) -> Metric:
    """The metric of a structure with a key (KeyError if there is none)."""
    return {metric.key: metric for metric in (*metrics_of(structure), AREA, LOAD)}[key]


def size_strata() -> tuple[tuple[str, str], ...]:
    """Strata of lesion size, smallest first: what they are called, and the part of a column's name."""
    from sctseg7t.measure.lesion_agreement import SIZE_LIMITS_MM3

    low, high = (f"{limit:g}" for limit in SIZE_LIMITS_MM3)
    return (
        (f"<{low} mm3", f"0_{low}_mm3"),
        (f"{low}-{high} mm3", f"{low}_{high}_mm3"),
        (
            f">={high} mm3",
            f"{high}_up_mm3",
        ),
    )

"""What a comparison is made of: plain records that every step reads and none changes."""

from dataclasses import dataclass, field
from pathlib import Path

from sctseg7t.measure.agreement import Agreement
from sctseg7t.measure.statistics import BlandAltman


@dataclass(frozen=True)
class Settings:
    """How a comparison is made and summed up.

    Attributes
    ----------
    failure_dice : float
        A slice with a Dice at or below this, or with a missing structure, is an outlier: counted, left out of means.
    trim : float
        Share (0..0.5) of the values cut at each end for the trimmed mean.
    confidence : float
        Of intervals, 0..1.
    tolerance_mm : float
        Of the normalised surface Dice.
    grids : str
        ``refuse`` masks on another grid than the scan's others, or ``resample`` them (nearest neighbour).
    threshold : float or None
        Cuts soft masks; None refuses them.
    lesion_rule : str
        When two lesions are counterparts, see :data:`sctseg7t.measure.lesion_matching.RULES`.
    connectivity : int or None
        Neighbours of a voxel in a lesion: 6, 18, 26; None for the rule's own.
    """

    failure_dice: float = 0.7
    trim: float = 0.0
    confidence: float = 0.95
    tolerance_mm: float = 0.5
    grids: str = "refuse"
    threshold: float | None = None
    lesion_rule: str = "overlap"
    connectivity: int | None = None


@dataclass(frozen=True)
class Case:
    """One scan with the masks that were found for it.

    Attributes
    ----------
    name : str
        Unique in the comparison.
    subject, session, run : str or None
    group : str or None
        From participants.tsv, e.g. HC, MS, ALS.
    image : Path or None
        The scan itself, for pictures.
    masks : dict of (method, structure) to Path
        ``structure``: SC, GM or WM (or LESION). The reference is a method by its name.
    levels : Path or None
        Vertebral labels on the scan's grid.
    entities : dict of str to str
        Of the scan's BIDS name; {} where it has none.
    """

    name: str
    subject: str | None
    session: str | None
    run: str | None
    group: str | None
    image: Path | None
    masks: dict
    levels: Path | None = None
    entities: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """Agreement of one method with another mask in one slice, level or whole scan.

    Attributes
    ----------
    case, structure, method : str
    against : str
        The reference's name, or another method's.
    where : str
        ``slice``, ``level`` or ``scan``.
    index : int or None
        Slice (inferior to superior, from 0, of the canonical image), or vertebral level.
    agreement : Agreement
        2D in mm for slices, 3D for levels and scans.
    voxels : dict of str to float
        ``HDRFDST``, ``AVGDIST_max``, ``AVGDIST_mean`` in voxels, ``VOLSMTY``: names of Taha and Hanbury 2015.
    outlier : str
        Why the slice is left out of means: ``""``, ``dice``, ``missing`` (no mask where the other has one),
        ``extra`` (a mask where the other has none).
    """

    case: str
    structure: str
    method: str
    against: str
    where: str
    index: int | None
    agreement: Agreement
    voxels: dict
    outlier: str


@dataclass(frozen=True)
class Problem:
    """Something that kept a mask or a scan out of the comparison, or made it doubtful.

    Attributes
    ----------
    kind : str
        ``grid``, ``resampled``, ``missing``, ``duplicate``, ``values`` (labels other than 0/1), ``soft``, ``nan``,
        ``unreadable``, ``empty``, ``name`` (does not say of which tissue or scan), ``identical`` (two masks the same
        to the voxel), ``failed`` (a method that was to be run).
    case, method, structure : str or None
    file : str or None
    message : str
        One line for people, with the remedy.
    left_out : bool
        Whether the mask is left out of the comparison.
    """

    kind: str
    case: str | None
    method: str | None
    structure: str | None
    file: str | None
    message: str
    left_out: bool


@dataclass(frozen=True)
class SummaryRow:
    """One line of the study's table: a method's slices (or scans) for one structure and metric.

    ``n`` counts all rows, ``outliers`` those left out; the numbers are of the rest. ``unit``: mm, mm2, voxel, % or "".
    """

    structure: str
    method: str
    against: str
    where: str
    metric: str
    unit: str
    n: int
    outliers: int
    mean: float
    median: float
    sd: float
    trimmed_mean: float
    low: float
    high: float


@dataclass(frozen=True)
class TestRow:
    """Two methods compared on one metric by one test.

    Attributes
    ----------
    test : str
        ``mann-whitney`` (unpaired, as in the 2021 study) or ``wilcoxon`` (paired).
    unit : str
        ``slice`` or ``subject`` (mean of each subject's slices; slices of one subject are not independent).
    n : tuple of int
        Values of each method, or pairs twice.
    effect : float
        Rank-biserial correlation: positive where `first` has the larger values.
    p, p_holm : float
        As computed, and corrected by Holm over all tests of this comparison of the same kind and unit.
    """

    __test__ = False  # not for pytest

    structure: str
    metric: str
    first: str
    second: str
    test: str
    unit: str
    n: tuple
    statistic: float
    effect: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class AreaAgreement:
    """CSA of one method against another's over slices in which both have the structure.

    ``icc`` is ICC(A,1) (absolute agreement) with its confidence interval; ``pairs`` (N, 2) the areas in mm2, the
    method's first, and ``cases`` their scans.
    """

    structure: str
    method: str
    against: str
    bland_altman: BlandAltman
    icc: float
    icc_low: float
    icc_high: float
    pairs: object
    cases: tuple


@dataclass(frozen=True)
class Repeatability:
    """Scan-rescan coefficient of variation (%) of a method's CSA: two runs of one session and subject.

    ``slice_cov`` compares slices at one height, ``scan_cov`` the scans' mean areas; nan where there is no pair.
    """

    structure: str
    method: str
    scans: int
    slices: int
    scan_cov: float
    slice_cov: float


@dataclass(frozen=True)
class Comparison:
    """Everything that was found: the tables, the pictures and the report are views of it.

    Attributes
    ----------
    methods : tuple of str
        Without the reference, in the order given.
    reference : str or None
        None: methods are compared among themselves and none is the truth.
    structures : tuple of str
    cases : tuple of Case
    rows : tuple of Row
        Slices, levels and scans of the cord's tissues. Against the reference where there is one; else each pair of
        methods.
    areas_mm2 : dict of (case, method, structure) to (Z,) array
        CSA of every slice of every mask, the reference's too; nan where the scan has none.
    problems : tuple of Problem
    lesions : LesionStudy or None
        Lesions are compared as a whole, not slice by slice; None where no mask is of lesions.
    provenance : dict
        Tool version, command, date, software, model identities where methods were run here.
    """

    settings: Settings
    methods: tuple
    reference: str | None
    structures: tuple
    cases: tuple
    rows: tuple
    areas_mm2: dict
    problems: tuple
    summary: tuple = ()
    tests: tuple = ()
    areas: tuple = ()
    repeatability: tuple = ()
    lesions: object = None
    provenance: dict = field(default_factory=dict)

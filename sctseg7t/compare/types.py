"""What a comparison is made of: settings, cases, problems, and the comparison with its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sctseg7t.inference.mask_names import LESION, STRUCTURES

if TYPE_CHECKING:
    import pandas as pd

# The method that is taken for the truth, by this name in a case's masks.
REFERENCE = "reference"
# Columns of the long table. `level` is slice, level (vertebral), scan or lesion; `index` the slice (inferior to
# superior, from 0, of the canonical image), the vertebral level or the lesion's place in the list; missing for scans.
KEYS = ["case", "subject", "structure", "method", "against", "level", "index"]
COLUMNS = [*KEYS, "metric", "value"]


@dataclass(frozen=True)
class Settings:
    """How a comparison is made and summed up.

    Attributes
    ----------
    failure_dice : float
        A slice with a Dice at or below this, or in which one mask is empty, is a failure (an "outlier" of the 2021
        study): counted, and left out of the second set of summaries only.
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
    primary : str
        The measure whose tests are corrected for each other; the tests of the others are exploratory.
    partial : bool
        The reference is drawn in some slices only: slices without it are not compared.
    """

    failure_dice: float = 0.7
    trim: float = 0.0
    confidence: float = 0.95
    tolerance_mm: float = 0.5
    grids: str = "refuse"
    threshold: float | None = None
    lesion_rule: str = "overlap"
    connectivity: int | None = None
    primary: str = "dice"
    partial: bool = False


@dataclass(frozen=True)
class Case:
    """One scan with the masks that were found for it.

    Attributes
    ----------
    name : str
        Unique in the comparison.
    subject : str or None
        The person: sessions of one count as one subject, see :mod:`sctseg7t.compare.subjects`.
    session, run : str or None
    group : str or None
        From participants.tsv, e.g. HC, MS, ALS.
    image : Path or None
        The scan itself, for pictures.
    masks : dict of (method, structure) to Path
        ``structure``: a key of ``STRUCTURES``. The reference is a method by its name.
    levels : Path or None
        Vertebral labels on the scan's grid.
    entities : dict of str to str
        Of the scan's BIDS name; {} where it has none.
    """

    name: str
    subject: str | None = None
    session: str | None = None
    run: str | None = None
    group: str | None = None
    image: Path | None = None
    masks: Mapping[tuple[str, str], Path] = field(default_factory=dict)
    levels: Path | None = None
    entities: Mapping[str, str] = field(default_factory=dict)

    @property
    def session_key(self) -> tuple | None:
        """The same for the runs of one session; None where the scan's name has no run."""
        if self.run is None or not self.entities:
            return None
        return tuple(sorted((key, value) for key, value in self.entities.items() if key != "run"))


@dataclass(frozen=True)
class Problem:
    """Something that kept a mask or a scan out of the comparison, or made it doubtful.

    Attributes
    ----------
    kind : str
        ``grid``, ``resampled``, ``missing``, ``duplicate``, ``values`` (labels other than 0/1), ``soft``, ``nan``,
        ``unreadable``, ``empty``, ``name`` (does not say of which tissue or scan), ``identical`` (two masks the same
        to the voxel), ``corrected`` (a mask that is not the method's own), ``failed`` (a method that was to be run).
    message : str
        One line for people, with the remedy.
    left_out : bool
        Whether the mask is left out of the comparison.
    case, method, structure, file : str or None
    """

    kind: str
    message: str
    left_out: bool
    case: str | None = None
    method: str | None = None
    structure: str | None = None
    file: str | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that was found: the tables, the pictures and the report are views of it.

    Attributes
    ----------
    settings : Settings
    methods : tuple of str
        Without the reference, in the order given.
    reference : str or None
        None: methods are compared among themselves and none is the truth.
    cases : tuple of Case
    pairs : tuple of (structure, method, against)
        What was compared with what, in the order of the structures and methods.
    values : DataFrame
        The long table, see ``COLUMNS``; a value that is not defined has no row. With ``against`` empty the values are
        of one mask: its area in each slice, its load.
    problems : tuple of Problem
    summary : DataFrame
        Of tissues: a row a pair, level and metric, see :func:`sctseg7t.compare.analysis.summarise`.
    lesion_summary : DataFrame
        Of lesions: a row a pair and stratum, see :func:`sctseg7t.compare.analysis.summarise_lesions`.
    tests : DataFrame
        Methods against each other, see :func:`sctseg7t.compare.analysis.tests_between`.
    agreement : DataFrame
        Of areas and loads: Bland-Altman, ICC and repeatability, a row a number, see
        :func:`sctseg7t.compare.analysis.size_agreement`.
    provenance : dict
        Tool version, command, date, software, model identities where methods were run here, hashes of the masks.
    """

    settings: Settings
    methods: tuple[str, ...]
    reference: str | None
    cases: tuple[Case, ...]
    pairs: tuple[tuple[str, str, str], ...]
    values: pd.DataFrame
    problems: tuple[Problem, ...]
    summary: pd.DataFrame
    lesion_summary: pd.DataFrame
    tests: pd.DataFrame
    agreement: pd.DataFrame
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def structures(self) -> tuple[str, ...]:
        """Tissues that were compared, without lesions."""
        found = {structure for structure, _, _ in self.pairs}
        return tuple(structure for structure in STRUCTURES if structure in found - {LESION})

    @cached_property
    def has_lesions(self) -> bool:
        """Whether any mask is of lesions."""
        return bool((self.values.structure == LESION).any())

    @cached_property
    def has_tissues(self) -> bool:
        """Whether slices of the cord were compared, or nothing was: else it is of lesions alone."""
        return bool(len(self.rows)) or not self.has_lesions

    def pairs_of(self, structure: str) -> list[tuple[str, str]]:
        """(method, against) compared for a structure, in the order of the methods."""
        return [(method, against) for tissue, method, against in self.pairs if tissue == structure]

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Slices, levels and scans of tissues with a column a metric, and ``outlier``: why a row is a failure.

        ``""``, ``dice``, ``missing`` (no mask where the other has one), ``extra`` (a mask where the other has none).
        """
        from sctseg7t.compare.analysis import wide

        rows = wide(self.values[(self.values.structure != LESION) & (self.values.against != "")], "tissue")
        conditions = [rows.size_method == 0, rows.size_against == 0, rows.dice <= self.settings.failure_dice]
        return rows.assign(outlier=np.select(conditions, ["missing", "extra", "dice"], ""))

    @cached_property
    def lesion_rows(self) -> pd.DataFrame:
        """Scans of lesions with a column a metric and the stratum of the other mask's load.

        ``empty`` tells which mask has none: both, method, against.
        """
        from sctseg7t.compare.analysis import wide
        from sctseg7t.measure.lesion_agreement import load_stratum

        lesions = self.values[(self.values.structure == LESION) & (self.values.against != "")]
        rows = wide(lesions[lesions.level == "scan"], "lesion")
        without = rows.load_method_ml == 0, rows.load_against_ml == 0
        empty = np.select([without[0] & without[1], *without], ["both", "method", "against"], "")
        return rows.assign(load_stratum=[load_stratum(load) for load in rows.load_against_ml], empty=empty)

    @cached_property
    def unmatched(self) -> pd.DataFrame:
        """Lesions without counterpart with a column a metric and stratum of size; ``kind`` is missed or false."""
        from sctseg7t.compare.analysis import wide
        from sctseg7t.compare.metrics import size_strata
        from sctseg7t.measure.lesion_agreement import size_stratum

        items = wide(self.values[self.values.level == "lesion"], "item")
        sizes = [size_strata()[place][0] for place in size_stratum(items.volume_mm3)]
        return items.assign(kind=np.where(items.missed == 1, "missed", "false"), size=sizes)

    def slices(self, structure: str | None = None) -> pd.DataFrame:
        """The rows of slices, of one structure or of all."""
        rows = self.rows[self.rows.level == "slice"]
        return rows if structure is None else rows[rows.structure == structure]

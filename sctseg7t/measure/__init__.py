"""Measures made from masks (CSA and shape of the cord's tissues) and of their agreement."""

from .agreement import Agreement, compare_masks, compare_slices
from .checks import AreaWarning, check_areas
from .csa import MEASURES, REASONS, CsaRow, CsaTable, LevelRow, measure_csa
from .statistics import BlandAltman, bland_altman, scan_rescan_cov
from .table import write_csv, write_level_csv

__all__ = [
    "MEASURES",
    "REASONS",
    "Agreement",
    "AreaWarning",
    "BlandAltman",
    "CsaRow",
    "CsaTable",
    "LevelRow",
    "bland_altman",
    "check_areas",
    "compare_masks",
    "compare_slices",
    "measure_csa",
    "scan_rescan_cov",
    "write_csv",
    "write_level_csv",
]

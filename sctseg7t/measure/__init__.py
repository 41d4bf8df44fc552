"""Measures made from masks: CSA and shape of the cord's tissues."""

from .checks import AreaWarning, check_areas
from .csa import MEASURES, REASONS, CsaRow, CsaTable, LevelRow, measure_csa
from .table import write_csv, write_level_csv

__all__ = [
    "MEASURES",
    "REASONS",
    "AreaWarning",
    "CsaRow",
    "CsaTable",
    "LevelRow",
    "check_areas",
    "measure_csa",
    "write_csv",
    "write_level_csv",
]

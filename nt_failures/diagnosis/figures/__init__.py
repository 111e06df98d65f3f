"""Figures for README, reports and cards."""

from nt_failures.diagnosis.figures.accuracy import forced_vs_free, learning_curves
from nt_failures.diagnosis.figures.graph import path_star
from nt_failures.diagnosis.figures.style import BLUE, VERMILION, save

__all__ = ["BLUE", "VERMILION", "forced_vs_free", "learning_curves", "path_star", "save"]

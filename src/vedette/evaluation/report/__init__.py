"""Self-contained pages about a run, or about several side by side: for the people who own the machines and for reviewers."""

from vedette.evaluation.plots import Curve, Holding, Trace
from vedette.evaluation.report.comparison import write_comparison
from vedette.evaluation.report.page import write_report

__all__ = ["Curve", "Holding", "Trace", "write_comparison", "write_report"]

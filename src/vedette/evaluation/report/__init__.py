"""One self-contained page about a run: for the people who own the machines and for reviewers."""

from vedette.evaluation.plots import Curve, Holding, Trace
from vedette.evaluation.report.page import write_report

__all__ = ["Curve", "Holding", "Trace", "write_report"]

"""The report's figures: inline SVG that takes its text colour from the page around it."""

from vedette.evaluation.plots.contrasts import Contrast, contrast_figure
from vedette.evaluation.plots.curves import Curve, loss_figure
from vedette.evaluation.plots.details import detail_figure
from vedette.evaluation.plots.epochs import epoch_figure
from vedette.evaluation.plots.footprints import Bar, Footprint, footprint_figure
from vedette.evaluation.plots.graphs import Graph, graph_figure
from vedette.evaluation.plots.holdings import MOST_HOLDINGS, Holding, class_figure, holding_figure
from vedette.evaluation.plots.leaks import leak_figure
from vedette.evaluation.plots.looks import Look, ordered, palette, styles
from vedette.evaluation.plots.nodes import MOST_BARS, node_figure
from vedette.evaluation.plots.paces import pace_figure
from vedette.evaluation.plots.peers import MOST_PEERS, peer_figure
from vedette.evaluation.plots.protocols import HeatMap, heat_figure
from vedette.evaluation.plots.rounds import PANELS, Course, mean_of_rows, node_rounds_figure, round_figure
from vedette.evaluation.plots.scores import BINS, Trace, trace_figure
from vedette.evaluation.plots.sizes import Growth, size_figure
from vedette.evaluation.plots.spent import spent_figure
from vedette.evaluation.plots.text import printable
from vedette.evaluation.plots.together import Grouped, together_figure
from vedette.evaluation.plots.tradeoffs import Tradeoff, tradeoff_figure
from vedette.evaluation.plots.trust import Standing, trust_figure

__all__ = [
    "BINS",
    "MOST_BARS",
    "MOST_HOLDINGS",
    "MOST_PEERS",
    "PANELS",
    "Bar",
    "Contrast",
    "Course",
    "Curve",
    "Footprint",
    "Graph",
    "Grouped",
    "Growth",
    "HeatMap",
    "Holding",
    "Look",
    "Standing",
    "Trace",
    "Tradeoff",
    "class_figure",
    "contrast_figure",
    "detail_figure",
    "epoch_figure",
    "footprint_figure",
    "graph_figure",
    "heat_figure",
    "holding_figure",
    "leak_figure",
    "loss_figure",
    "mean_of_rows",
    "node_figure",
    "node_rounds_figure",
    "ordered",
    "pace_figure",
    "palette",
    "peer_figure",
    "printable",
    "round_figure",
    "size_figure",
    "spent_figure",
    "styles",
    "together_figure",
    "trace_figure",
    "tradeoff_figure",
    "trust_figure",
]

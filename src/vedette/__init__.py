"""Vedette: federated, distributed and peer-to-peer anomaly detection for fleets of IoT devices.

Names are imported when first used, so that ``import vedette`` loads none of the heavy parts.
"""

from typing import TYPE_CHECKING

from vedette.lazy import lazily
from vedette.version import __version__

if TYPE_CHECKING:
    from vedette import detectors, strategies
    from vedette.data import load
    from vedette.data.fleet import Fleet
    from vedette.data.table import Table
    from vedette.errors import VedetteError
    from vedette.evaluation.federation import federate

__all__ = ["Fleet", "Table", "VedetteError", "__version__", "detectors", "federate", "load", "strategies"]

__getattr__ = lazily(
    __name__,
    {
        "Fleet": "vedette.data.fleet",
        "Table": "vedette.data.table",
        "VedetteError": "vedette.errors",
        "detectors": "vedette.detectors",
        "federate": "vedette.evaluation.federation",
        "load": "vedette.data",
        "strategies": "vedette.strategies",
    },
)

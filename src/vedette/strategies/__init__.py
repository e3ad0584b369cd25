"""Strategies: how nodes learn together, as pure functions that run anywhere."""

from typing import TYPE_CHECKING

from vedette.lazy import lazily

if TYPE_CHECKING:
    from vedette.strategies.base import STRATEGIES, Reply, Strategy, Turn, View
    from vedette.strategies.clustered import Clustered
    from vedette.strategies.fedavg import FedAvg
    from vedette.strategies.fedkd import FedKd
    from vedette.strategies.fedprox import FedProx
    from vedette.strategies.fedtl import FedTl
    from vedette.strategies.local import Local
    from vedette.strategies.merge import Merge
    from vedette.strategies.mtad_fl import MtadFl
    from vedette.strategies.parameter_server import ParameterServer

__all__ = [
    "STRATEGIES",
    "Clustered",
    "FedAvg",
    "FedKd",
    "FedProx",
    "FedTl",
    "Local",
    "Merge",
    "MtadFl",
    "ParameterServer",
    "Reply",
    "Strategy",
    "Turn",
    "View",
]

__getattr__ = lazily(
    __name__,
    {
        "STRATEGIES": "vedette.strategies.base",
        "Clustered": "vedette.strategies.clustered",
        "FedAvg": "vedette.strategies.fedavg",
        "FedKd": "vedette.strategies.fedkd",
        "FedProx": "vedette.strategies.fedprox",
        "FedTl": "vedette.strategies.fedtl",
        "Local": "vedette.strategies.local",
        "Merge": "vedette.strategies.merge",
        "MtadFl": "vedette.strategies.mtad_fl",
        "ParameterServer": "vedette.strategies.parameter_server",
        "Reply": "vedette.strategies.base",
        "Strategy": "vedette.strategies.base",
        "Turn": "vedette.strategies.base",
        "View": "vedette.strategies.base",
    },
)

"""Strategies: how nodes learn together, as pure functions that run anywhere."""

from typing import TYPE_CHECKING

from vedette.lazy import lazily

if TYPE_CHECKING:
    from vedette.strategies.base import STRATEGIES, Reply, Strategy, Turn, View
    from vedette.strategies.fedavg import FedAvg
    from vedette.strategies.fedprox import FedProx
    from vedette.strategies.local import Local
    from vedette.strategies.merge import Merge

__all__ = ["STRATEGIES", "FedAvg", "FedProx", "Local", "Merge", "Reply", "Strategy", "Turn", "View"]

__getattr__ = lazily(
    __name__,
    {
        "STRATEGIES": "vedette.strategies.base",
        "FedAvg": "vedette.strategies.fedavg",
        "FedProx": "vedette.strategies.fedprox",
        "Local": "vedette.strategies.local",
        "Merge": "vedette.strategies.merge",
        "Reply": "vedette.strategies.base",
        "Strategy": "vedette.strategies.base",
        "Turn": "vedette.strategies.base",
        "View": "vedette.strategies.base",
    },
)

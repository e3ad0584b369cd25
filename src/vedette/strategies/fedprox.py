"""FedProx: FedAvg whose local training is held near where it started."""

from __future__ import annotations

from pydantic import Field

from vedette.strategies.fedavg import FedAvg
from vedette.training.task import Distil, Proximal

__all__ = ["FedProx"]


class FedProx(FedAvg):
    """FedAvg with a proximal term in the local loss (Li et al. 2020, eq. 2).

    Parameters
    ----------
    mu
        Weight of half the squared distance to the weights received.
    """

    mu: float = Field(default=0.01, ge=0)

    def terms(self) -> tuple[Proximal | Distil, ...]:
        # Without an anchor the term holds to the weights the task starts from: those just received.
        return (Proximal(self.mu),)

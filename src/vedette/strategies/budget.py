"""A privacy budget: what all that nodes tell may give away of any one of them."""

from __future__ import annotations

from pydantic import Field, model_validator

from vedette.settings import Settings

__all__ = ["Privacy"]


class Privacy(Settings):
    """What all that nodes tell may cost, from the scaling over the rounds to the threshold (Dwork and Roth 2014, definition 2.4).

    Parameters
    ----------
    epsilon
        Whatever comes of a run may be more likely with a node than without it by a factor of e to this power.
    delta
        Probability with which that need not hold; well below one over the number of nodes.
    prepare, calibrate
        Shares of the budget for the votes on the scaling and on the threshold; the rest is for the rounds. What is shared out are inverse
        squares of noise multipliers, which add up over a run.
    """

    epsilon: float = Field(gt=0)
    delta: float = Field(default=1e-5, gt=0, lt=1)
    prepare: float = Field(default=0.2, gt=0, lt=1)
    calibrate: float = Field(default=0.05, gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_some(self) -> Privacy:
        if self.prepare + self.calibrate >= 1:
            raise ValueError("'prepare' and 'calibrate' are shares of the budget, and leave nothing for the rounds")
        return self

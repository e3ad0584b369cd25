"""A privacy budget: what all that nodes tell may give away of any one of them."""

from __future__ import annotations

from pydantic import Field

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
        Noise multiplier of each vote on the scaling, and of the histogram of scores. What they leave of the budget is for the rounds.
    """

    epsilon: float = Field(gt=0)
    delta: float = Field(default=1e-5, gt=0, lt=1)
    prepare: float = Field(default=3.0, gt=0)
    calibrate: float = Field(default=4.0, gt=0)

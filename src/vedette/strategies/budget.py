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
    prepare, group, calibrate
        Shares of the budget for the votes on the scaling, for what nodes tell to be grouped by, and for the votes on the threshold; the
        rest is for the rounds, and so is what is not needed. What is shared out are inverse squares of noise multipliers, which add up over
        a run.
    full
        Rows with which a node's vote on the threshold counts in full; those with fewer count in proportion. More make the votes nearer to
        those of all rows together, fewer let less of them drown in the noise. Of 200 rows the share beyond a 90 % quantile is sure to
        within 0.02 (its standard error), and more add little.
    """

    epsilon: float = Field(gt=0)
    delta: float = Field(default=1e-5, gt=0, lt=1)
    prepare: float = Field(default=0.2, gt=0, lt=1)
    group: float = Field(default=0.2, gt=0, lt=1)
    calibrate: float = Field(default=0.05, gt=0, lt=1)
    full: int = Field(default=200, ge=1)

    @model_validator(mode="after")
    def _leaves_some(self) -> Privacy:
        if self.prepare + self.calibrate >= 1:
            raise ValueError("'prepare' and 'calibrate' are shares of the budget, and leave nothing for the rounds")
        return self

"""The planner: how a network can be trained within a stated number of bytes, and what that costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vedette.errors import RecipeError
from vedette.training.dense import Dense
from vedette.training.lowmem.network import Buffers, Precision, buffers_of
from vedette.training.lowmem.rows import scaling_buffers
from vedette.training.lowmem.update import state_of

__all__ = ["Plan", "Wish", "planned", "step_bytes"]

PYTHON = 16_000
"""Bytes of Python's own objects while a step runs: views, numbers of rows; tests hold it against what is allocated."""

LANES = {"float32": (64, 16), "float16": (64, 32, 16, 8)}
"""Rows of a weight matrix worked on at once; fewer take less memory and more time."""

RATES = {"adam": 1.0, "adamw": 1.0, "momentum": 10.0, "sgd": 100.0}
"""Learning rates that go with each optimiser, as multiples of Adam's."""

LEAST = 0.125
"""Of the width that was asked for: below it a network is another one."""


class Wish(NamedTuple):
    """What is asked for.

    Attributes
    ----------
    dense
        The network.
    batch
        Rows a step.
    rule
        Optimiser.
    budget
        Bytes.
    precision, micro_batches
        Settled already, or None.
    columns
        Numbers of a raw row.
    may_narrow, may_switch
        Whether hidden layers may be made narrower, and another optimiser be taken.
    """

    dense: Sequence[Dense]
    batch: int
    rule: str
    budget: int
    precision: Precision | None = None
    micro_batches: int | None = None
    columns: int = 0
    may_narrow: bool = True
    may_switch: bool = True


class Plan(NamedTuple):
    """How it is done.

    Attributes
    ----------
    dense
        The network, perhaps narrower.
    rows
        Of a micro-batch.
    precision
        How weights and gradients are kept.
    lanes
        See `DenseNetwork`.
    rule
        Optimiser.
    share
        Width of the hidden layers, of what was asked for.
    bytes
        Of a step, all told.
    """

    dense: tuple[Dense, ...]
    rows: int
    precision: Precision
    lanes: int
    rule: str
    share: float
    bytes: int

    def rate(self, wish: str) -> float:
        """Return what the learning rate must be multiplied by if another optimiser was asked for."""
        return RATES[self.rule] / RATES[wish]

    def says(self, wish: Wish) -> str:
        """Say in one sentence what was chosen and what it costs."""
        widths = "-".join(str(layer.outputs) for layer in self.dense[:-1])
        micro = math.ceil(wish.batch / self.rows)
        parts = [
            f"hidden layers {widths}" + (f" ({self.share:.0%} of the width asked for)" if self.share < 1 else ""),
            self.precision,
            f"{micro} micro-batches of {self.rows} rows" if micro > 1 else f"whole batches of {self.rows} rows",
            self.rule if self.rule == wish.rule else f"{self.rule} instead of {wish.rule} (rate × {self.rate(wish.rule):g})",
        ]
        asked = step_bytes(wish.dense, wish.batch, "float32", LANES["float32"][0], wish.rule, wish.columns)
        return f"{', '.join(parts)}: {self.bytes:,} of {wish.budget:,} bytes a step; as asked it would take {asked:,}"


def step_bytes(dense: Sequence[Dense], rows: int, precision: Precision, lanes: int, rule: str, columns: int = 0) -> int:
    """Count the bytes of a training step, all buffers and Python's own objects."""
    network = buffers_of(dense, rows, precision, lanes)
    state = state_of(dense, rule, precision, network["other"][0])
    scaling = scaling_buffers(columns or dense[0].inputs, dense[0].inputs, np.float32)
    return _bytes(network) + _bytes(state) + _bytes(scaling) + PYTHON


def _bytes(buffers: Buffers) -> int:
    return sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in buffers.values())


def planned(wish: Wish) -> Plan:
    """Choose how to train within a budget: what costs least accuracy first, then least time.

    Smaller micro-batches change nothing but time; 16 bits little; another optimiser more; narrower layers most.

    Raises
    ------
    RecipeError
        Nothing fits: what the smallest way would take.
    """
    smallest: Plan | None = None
    for plan in _ways(wish):
        if plan.bytes <= wish.budget:
            return plan
        smallest = plan if smallest is None or plan.bytes < smallest.bytes else smallest
    assert smallest is not None
    settled = [
        f"{name} = {value}" for name, value in (("precision", wish.precision), ("micro_batches", wish.micro_batches)) if value is not None
    ]
    raise RecipeError(
        f"no step fits {wish.budget:,} bytes: the smallest way ({smallest.says(wish)}) takes {smallest.bytes:,}"
        + (f"; {' and '.join(settled)} leave no more choice" if settled else "")
        + f"; raise trainer.memory_budget or take a smaller network{_hint(wish)}"
    )


def _hint(wish: Wish) -> str:
    """Say which narrower network would fit, if one does."""
    if wish.may_narrow:
        return ""
    narrower = next((plan for plan in _ways(wish._replace(may_narrow=True)) if plan.bytes <= wish.budget), None)
    return "" if narrower is None else f": hidden layers of {', '.join(str(layer.outputs) for layer in narrower.dense[:-1])} would fit"


def _ways(wish: Wish) -> Iterator[Plan]:
    """Yield all ways to train, the best first."""
    lighter = {"adam": ("momentum", "sgd"), "adamw": ("momentum", "sgd"), "momentum": ("sgd",), "sgd": ()}[wish.rule]
    rules = (wish.rule, *(lighter if wish.may_switch else ()))
    precisions: tuple[Precision, ...] = ("float32", "float16") if wish.precision is None else (wish.precision,)
    halved = [math.ceil(wish.batch / 2**power) for power in range(wish.batch.bit_length())]
    rows = halved if wish.micro_batches is None else [math.ceil(wish.batch / wish.micro_batches)]
    shares = [1.0, *(0.875**power for power in range(1, 17))] if wish.may_narrow else [1.0]
    # Steps of a few rows take long: they are a last resort, like a few lanes.
    for share in (share for share in shares if share >= LEAST):
        dense = _narrower(wish.dense, share)
        for rule, precision, few in itertools.product(rules, precisions, (False, True)):
            for count in (count for count in rows if (count < 8) == few or len(rows) == 1):
                for lanes in LANES[precision]:
                    size = step_bytes(dense, count, precision, lanes, rule, wish.columns)
                    yield Plan(tuple(dense), count, precision, lanes, rule, share, size)


def _narrower(dense: Sequence[Dense], share: float) -> list[Dense]:
    """Return a network whose hidden layers have a share of their width, at least one value each."""
    widths = [dense[0].inputs, *(max(1, round(layer.outputs * share)) for layer in dense[:-1]), dense[-1].outputs]
    return [layer._replace(inputs=widths[place], outputs=widths[place + 1]) for place, layer in enumerate(dense)]

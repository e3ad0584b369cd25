"""A node owner's policy: what a plan, and each piece of work, may ask of the node (docs/policy.md)."""

from __future__ import annotations

import inspect
import json
import math
import tomllib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field

from vedette.detectors.base import DETECTORS
from vedette.errors import RecipeError, VedetteError
from vedette.message import Message
from vedette.runtimes.base import Plan
from vedette.runtimes.phase import Run, run_of
from vedette.runtimes.privacy import cost_of
from vedette.runtimes.topology import EdgeFile
from vedette.seeds import stream
from vedette.settings import Settings, describe, validated
from vedette.strategies.aggregation import AGGREGATORS
from vedette.strategies.base import LINKS, STRATEGIES, Strategy, Turn
from vedette.strategies.chain.chained import plain
from vedette.training.layout import layout_of
from vedette.training.lowmem.trainer import LowmemTrainer
from vedette.training.task import Work
from vedette.training.trainers import TRAINERS

__all__ = ["Policy", "commented", "read_policy", "refusals", "refuses"]

Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""Names or globs over names; one of them may stand alone."""

SCHEMA = "vedette.plan/1"
KNOWN = frozenset({"schema", "seed", "detector", "topology", "attackers", "trainer", "stages"})
"""What a plan consists of; in one that says more there is something that this version would not heed."""

STAGES = {"prepare": ("prepare", "private-prepare"), "rounds": (), "calibrate": ("calibrate", "private-calibrate")}
"""A plan's stages in order, and the strategies of those that are much the same in every run."""


class Policy(Settings):
    """What a node takes part in. Names may be globs ("fed*"), "*" is all.

    Parameters
    ----------
    strategies
        Ways of learning together. By default those that send weights and summaries, never rows.
    detectors
        What is learned.
    trainers
        Who trains.
    aggregators
        How updates become one; only a mean can do without seeing each node's.
    queries
        What may be asked of the rows. These give counts, extremes, moments, names of categories and the like, never rows; "k-smote"
        makes points up from the rarer class.
    tables
        Received rows to train on, by name.
    shares_rows
        Whether rows, made up ones too, may leave the node.
    most_rounds
        Rounds of a run.
    most_epochs
        Passes over the rows in a round, all its tasks together.
    most_steps
        Training steps in a round, where they are what is counted.
    most_memory
        Bytes of parameters, their gradients and what the optimiser remembers. Rows and activations are not among them.
    most_epsilon
        Privacy that a run may cost, as the epsilon of differential privacy. With a limit a plan is refused that tells anything without
        noise, or with noise that others could draw too.
    most_delta
        Probability with which that limit need not hold.
    chain
        Links that must be in the chain of all that is averaged: "mask", so that only sums leave; "clip", "noise".
    drills
        Whether a plan may name nodes that do not play by the rules, to try a federation out.
    """

    strategies: Names = ("local", "fedavg", "fedprox", "fedkd", "fedtl", "mtad-fl", "gossip-fedavg", "merge")
    detectors: Names = ("*",)
    trainers: Names = ("*",)
    aggregators: Names = ("*",)
    queries: Names = ("scaling", "votes", "scaled-by", "residuals", "inputs", "summary", "variance", "scores", "loss-of")
    tables: Names = ()
    shares_rows: bool = False
    most_rounds: int = Field(default=1000, ge=0)
    most_epochs: float = Field(default=50.0, ge=0)
    most_steps: int = Field(default=10_000, ge=0)
    most_memory: int = Field(default=256 * 2**20, ge=0)
    most_epsilon: float | None = Field(default=None, ge=0)
    most_delta: float = Field(default=1e-5, gt=0, lt=1)
    chain: Names = ()
    drills: bool = False


def read_policy(path: Path) -> Policy:
    """Read a policy; what it leaves out is as careful as the default.

    Raises
    ------
    RecipeError
        It cannot be read, is no TOML, or has a value of a wrong type.
    UnknownName
        It has a key that is none, with the nearest one.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read as a policy: {getattr(error, 'strerror', None) or error}") from None
    return validated(Policy, values, str(path))


def commented(policy: Policy) -> str:
    """Return a policy as TOML, what each key means above it."""
    _, _, keys = (inspect.getdoc(Policy) or "").partition("----------\n")
    lines = ["# What this device takes part in. A plan, or a piece of work, that asks for more is refused."]
    said: list[str] = []
    # In numpydoc a key comes first, in TOML what is said of it does.
    for line in reversed(keys.splitlines()):
        if line.startswith(" "):
            said.insert(0, f"# {line.strip()}")
        else:
            lines[1:1] = ["", *said, _assignment(line, getattr(policy, line))]
            said = []
    return "\n".join(lines) + "\n"


def _assignment(key: str, value: Any) -> str:
    if value is None:
        return f"# {key} = 8.0"
    # Names, numbers and truth values are the same in JSON and in TOML.
    return f"{key} = {json.dumps(value)}"


def refusals(plan: Plan, policy: Policy, width: int | None = None) -> list[str]:
    """Say what the owner has against a plan, a sentence each; none if nothing.

    Parameters
    ----------
    plan
        As it was received.
    policy
        The owner's.
    width
        Values of a sample as the node's network sees it, if that is known already: memory is told by it.
    """
    try:
        run = run_of(plan)
        if plan["schema"] != SCHEMA or set(plan) - KNOWN:
            strange = sorted(set(plan) - KNOWN)
            return [f"the plan is of another version (schema {plan['schema']!r:.40}, unknown keys {strange!s:.80})"]
        return list(dict.fromkeys(f"{sentence:.300}" for sentence in _objections(run, policy, width)))
    except (VedetteError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        # What it quotes of the plan may hold anything, and goes into a log.
        return [f"the plan cannot be carried out here: {str(error)!r:.200}"]


def refuses(work: Work, policy: Policy) -> str | None:
    """Say in one sentence what the owner has against a piece of work, or None.

    A node makes its work itself, from the plan and what it received; so this says no where the plan could not tell beforehand.
    """
    return next(_against([work], policy, "the work"), None)


def _objections(run: Run, policy: Policy, width: int | None) -> Iterator[str]:
    yield from _unnamed("detector", describe(DETECTORS, run.detector)["name"], policy.detectors)
    yield from _unnamed("trainer", describe(TRAINERS, run.trainer)["name"], policy.trainers)
    if run.attackers.nodes and not policy.drills:
        yield "the plan has nodes that do not play by the rules, and the policy allows no drills (drills)"
    if isinstance(run.topology, EdgeFile) and not run.topology.edges:
        yield "the plan has no edges, but the name of a file that this machine would have to read (topology.path)"
    if policy.most_epsilon is not None:
        yield from _cost(run, policy.most_epsilon, policy.most_delta)
    if width is not None and (needed := _memory(run, width)) > policy.most_memory:
        yield f"training takes {needed:,} bytes, and the policy allows {policy.most_memory:,} (most_memory)"
    if [stage.name for stage in run.stages] != list(STAGES):
        yield f"the plan has not the stages {', '.join(STAGES)}, but {[stage.name for stage in run.stages]!s:.80}"
        return
    for name, strategy in ((stage.name, plain(stage.strategy)) for stage in run.stages):
        linked = {describe(LINKS, link)["name"] for link in strategy.chain}
        if lacking := [link for link in policy.chain if link not in linked] if strategy.channels else []:
            yield f"the policy wants the chain of stage '{name}' to have {' and '.join(lacking)} (chain)"
        called = describe(STRATEGIES, strategy)["name"]
        if STAGES[name] and called not in STAGES[name]:
            yield f"the plan's stage '{name}' is '{called}'"
        if not STAGES[name]:
            yield from _unnamed("strategy", called, policy.strategies)
        aggregator = getattr(strategy, "aggregator", None)
        if aggregator is not None:
            yield from _unnamed("aggregator", describe(AGGREGATORS, aggregator)["name"], policy.aggregators)
        if strategy.shares_rows and not policy.shares_rows:
            yield f"strategy '{called}' has rows leave the node, and the policy does not allow it (shares_rows)"
        if strategy.rounds > policy.most_rounds:
            yield f"stage '{name}' has {strategy.rounds:,} rounds, and the policy allows {policy.most_rounds:,} (most_rounds)"
        yield from _against([_first(strategy, phase) for phase in strategy.phases], policy, f"a round of '{called}'")
        for phase in strategy.closing:
            yield from _against([_first(strategy, phase)], policy, f"the end of '{called}'")


def _cost(run: Run, most: float, delta: float) -> Iterator[str]:
    """Say that a plan costs more privacy than is allowed."""
    cost = cost_of([stage.strategy for stage in run.stages], delta)
    if math.isinf(cost):
        yield f"the plan tells something without noise, and the policy allows a privacy cost of {most:g} at most (most_epsilon)"
    elif cost > most:
        yield f"the plan costs an epsilon of {cost:.4g} at delta {delta:g}, and the policy allows {most:g} (most_epsilon)"


def _unnamed(noun: str, name: str, allowed: Names) -> Iterator[str]:
    """Say that a name is not among those that are allowed."""
    if not any(fnmatchcase(name, glob) for glob in allowed):
        plural = {"query": "queries", "strategy": "strategies"}.get(noun, f"{noun}s")
        yield f"the policy does not allow the {noun} '{name}' ({plural})"


def _first(strategy: Strategy, phase: str) -> Work:
    """Return what a node does in a phase when it has received nothing yet."""
    return strategy.work(Turn(0, phase, ("",), {}, partial(stream, 0)), Message(), {})


def _against(works: Sequence[Work], policy: Policy, what: str) -> Iterator[str]:
    """Say what there is against works of the same round."""
    tasks = [task for work in works for task in work.tasks]
    epochs = sum(task.epochs for task in tasks if task.steps is None)
    steps = sum(task.steps for task in tasks if task.steps is not None)
    # What is no number is not less than anything either.
    if not epochs <= policy.most_epochs:
        yield f"{what} is {epochs:g} epochs, and the policy allows {policy.most_epochs:g} (most_epochs)"
    if not steps <= policy.most_steps:
        yield f"{what} is {steps:,} steps, and the policy allows {policy.most_steps:,} (most_steps)"
    for work in works:
        for query in work.queries.values():
            yield from _unnamed("query", query.name, policy.queries)
        for table in work.tables:
            yield from _unnamed("table", table, policy.tables)


def _memory(run: Run, width: int) -> int:
    """Return the bytes of all networks' parameters, gradients and what the optimiser remembers, or the trainer's own limit."""
    optimiser = run.detector.optimiser
    each = 2 + {"adam": 2, "adamw": 2}.get(optimiser.name, 1 if optimiser.momentum else 0)
    needed = sum(4 * each * layout_of(layers).size for layers in run.detector.networks(width).values())
    trainer = run.trainer
    # A budget that is for some nodes only may not be for this one.
    if isinstance(trainer, LowmemTrainer) and trainer.memory_budget is not None and not trainer.nodes:
        return min(needed, trainer.memory_budget)
    return needed

"""The trainer for little memory: carries tasks out in NumPy, within a stated number of bytes."""

from __future__ import annotations

import math
import re
import tracemalloc
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Protocol, Self, TypeVar, cast

import numpy as np
from pydantic import BeforeValidator, Field, PrivateAttr

from vedette.errors import RecipeError, TrainingDiverged
from vedette.message import Array, Channel, Memory, Vector
from vedette.seeds import seed_of
from vedette.settings import Settings
from vedette.training.bench import Bench, together
from vedette.training.dense import Dense, dense_of
from vedette.training.layout import layout_of
from vedette.training.lowmem.descent import Loss, Schedule
from vedette.training.lowmem.flat import FlatNetwork
from vedette.training.lowmem.lesson import Lesson, Rate, Taught, teach
from vedette.training.lowmem.network import Precision
from vedette.training.lowmem.planner import LANES, Plan, Wish, planned, step_bytes
from vedette.training.lowmem.process import taught_apart
from vedette.training.lowmem.source import Source
from vedette.training.lowmem.update import STATES, Rule
from vedette.training.pruning import compacted, expanded, gathered
from vedette.training.task import Distil, Done, Job, Layers, Learnable, Optimiser, Proximal, Task, Trainer, Work
from vedette.training.trainer import DIVERGED, LoopTrainer

__all__ = ["LowmemTrainer", "Penalty", "narrowed"]

N = TypeVar("N", bound="Narrowable")

MOMENTUM = 0.9
"""Where the budget takes momentum instead of Adam."""

UNITS = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "KiB": 2**10, "MiB": 2**20}


def _bytes(value: Any) -> Any:
    """Read ``"256 kB"``."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", value)
    if found is None or found[2] not in UNITS:
        raise ValueError("write a number of bytes as '256 kB', '1.5 MB' or '512 KiB'")
    return round(float(found[1]) * UNITS[found[2]])


class Narrowable(Learnable, Protocol):
    """A detector that can be copied with other settings."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """Return a copy."""


class Penalty(Settings):
    """The weight-elimination penalty with the adaptive lambda of Zakariyya et al. 2021, algorithm 2.

    Parameters
    ----------
    weight
        lambda at the start; 0 with no growth: no penalty.
    growth
        By how much lambda grows after a pass (delta lambda).
    scale
        w0: weights much smaller count as nothing, much larger ones as 1 each (eq. 4).
    compared
        What decides whether lambda grows: the ``"whole"`` loss with the penalty, as in the paper, or the ``"fit"`` to the rows alone; with
        ``"fit"`` lambda also falls again where the fit got worse.
    baseline
        Losses of the plain network pass by pass, to compare with; if there are none, what the own fit was in the pass before.
    """

    weight: float = Field(default=0.0, ge=0)
    growth: float = Field(default=0.0, ge=0)
    scale: float = Field(default=0.01, gt=0)
    compared: Literal["whole", "fit"] = "whole"
    baseline: tuple[float, ...] = ()

    def schedule(self, weight: float | None, pruned: float) -> Schedule:
        """Return it as the descent takes it, with the lambda that it came to before."""
        return Schedule(self.weight if weight is None else weight, self.growth, self.scale, pruned, self.compared, self.baseline)


class LowmemTrainer(Trainer):
    """Trains dense networks with NumPy alone, in buffers that are made once.

    Parameters
    ----------
    memory_budget
        Bytes that a training step may take, all told: ``"256 kB"``. What is left open below is chosen so that it fits. Rows are then
        visited in an order that needs no list of them, so not in that of the ordinary trainer. None: no limit.
    precision
        How weights and gradients are kept, ``"float32"`` or ``"float16"`` (with a loss scale and stochastic rounding; arithmetic is float32
        on small blocks). None: the budget decides, float32 without one.
    micro_batches
        Parts of a batch whose gradients add up before a step. 0: the budget decides, 1 without one.
    may_narrow, may_switch
        Whether the budget may make hidden layers narrower, and take momentum or plain SGD instead of Adam. Narrower layers are settled
        before a run begins, for all nodes alike.
    penalty
        What drives weights to zero.
    prune
        Weights that are smaller after a pass are set to zero and stay there; neurons that do nothing any more are left out of training.
        0 prunes nothing.
    together
        Nodes whose equal tasks are trained side by side, in float32.
    own_process
        Train in a process of its own that holds little but NumPy; for rows of numbers in files.
    nodes
        Who trains like this; the others train with torch. All if empty.
    """

    memory_budget: Annotated[Annotated[int, Field(gt=0)] | None, BeforeValidator(_bytes)] = None
    precision: Precision | None = None
    micro_batches: int = Field(default=0, ge=0)
    may_narrow: bool = True
    may_switch: bool = True
    penalty: Penalty = Penalty()
    prune: float = Field(default=0.0, ge=0)
    together: int = Field(default=1, ge=1)
    own_process: bool = False
    nodes: tuple[str, ...] = ()

    _resident: int = PrivateAttr(default=0)
    _seconds: float = PrivateAttr(default=0.0)

    def refuses(self, detector: Learnable, work: Work) -> str | None:
        """Say in one sentence why this work cannot be done here, or None."""
        if detector.adversary is not None:
            return "training against evasion needs gradients of the inputs: take the trainer 'torch' (or leave out detector.hardening)"
        for task in work.tasks:
            if any(isinstance(term, Distil) for term in task.terms):
                return "the trainer 'lowmem' has no room for a teacher beside the network: take the trainer 'torch' for this strategy"
            if task.trains != "*":
                return f"the trainer 'lowmem' trains whole networks, not '{task.trains}' alone: take the trainer 'torch' for this strategy"
        return None

    def run(
        self, detector: Learnable, jobs: Iterable[Job], channels: Sequence[Channel], seed: int, round: int, phase: str
    ) -> Iterator[tuple[str, Done, Memory]]:
        """Do the work of many nodes; see `vedette.training.task.Trainer`."""
        waiting: list[_LeanBench] = []
        for job in jobs:
            if self.nodes and job.node not in self.nodes:
                yield from LoopTrainer().run(detector, [job], channels, seed, round, phase)
                continue
            waiting.append(_LeanBench(self, detector, job, channels, seed, round, phase))
            if len(waiting) == self.together:
                yield from self._carried(waiting)
                waiting = []
        yield from self._carried(waiting)

    def wish(self, dense: Sequence[Dense], optimiser: Optimiser, batch: int, columns: int) -> Wish:
        """Return what the budget has to make fit."""
        assert self.memory_budget is not None
        return Wish(
            dense,
            batch,
            _rule(optimiser),
            self.memory_budget,
            self.precision,
            self.micro_batches or None,
            columns,
            self.may_narrow,
            self.may_switch,
        )

    def plan(self, dense: Sequence[Dense], optimiser: Optimiser, batch: int, columns: int) -> Plan:
        """Say how a network is trained.

        Raises
        ------
        RecipeError
            It does not fit the budget.
        """
        if self.memory_budget is not None:
            return planned(self.wish(dense, optimiser, batch, columns)._replace(may_narrow=False))
        precision: Precision = self.precision or "float32"
        rows, lanes, rule = -(-batch // (self.micro_batches or 1)), LANES[precision][0], _rule(optimiser)
        return Plan(tuple(dense), rows, precision, lanes, rule, 1.0, step_bytes(dense, rows, precision, lanes, rule, columns))

    @property
    def unit(self) -> int:
        """Nodes that are trained together."""
        return self.together

    @property
    def tight(self) -> bool:
        """Whether nothing is kept that grows with the rows: they are read and scaled when they are needed, in an order without a list."""
        return self.memory_budget is not None or self.own_process

    def planned_for(self, detector: Learnable, width: int) -> Plan:
        """Say how a detector's network for samples of so many values is trained.

        Raises
        ------
        RecipeError
            It does not fit the budget.
        """
        return self.plan(dense_of(detector.networks(width)[detector.role]), detector.optimiser, detector.optimiser.batch, width)

    def says(self, detector: Learnable, width: int) -> str:
        """Say in one sentence what the budget chose for a detector of so many values and what it costs; nothing where there is none."""
        if self.memory_budget is None:
            return ""
        wish = self.wish(dense_of(detector.networks(width)[detector.role]), detector.optimiser, detector.optimiser.batch, width)
        return planned(wish).says(wish)

    def measured_step(self, detector: Learnable, job: Job, seed: int) -> int:
        """Return the peak bytes that are allocated while the steps of a job's first task are taken, buffers included (tracemalloc)."""
        ready = _LeanBench(self, detector, job, (), seed, 0, "train").ready(0)
        if ready is None:
            return 0
        most: list[int] = []
        # What is imported or cached when it is first used belongs to no step.
        teach([ready.lesson._replace(steps=1)], [ready.rows.source()])
        tracemalloc.start()
        try:
            teach([ready.lesson], [ready.rows.source()], lambda: most.append(tracemalloc.get_traced_memory()[1]))
        finally:
            tracemalloc.stop()
        return most[0]

    @property
    def resident(self) -> int:
        """Most bytes that the last training process of its own held (VmHWM); 0 if there was none."""
        return self._resident

    @property
    def seconds(self) -> float:
        """How long the last training process of its own trained, without its start; 0 if there was none."""
        return self._seconds

    def _carried(self, benches: Sequence[_LeanBench]) -> Iterator[tuple[str, Done, Memory]]:
        # Rounding to 16 bits draws for all that are trained together, so that company would change a node's weights.
        together(
            benches,
            _LeanBench.ready,
            lambda ready: ready.bench.job.node if self.together == 1 or ready.lesson.precision == "float16" else ready.key,
            self._train,
        )
        for bench in benches:
            with bench.located():
                done, memory = bench.ended()
            yield bench.job.node, done, memory

    def _train(self, alike: Sequence[_Ready]) -> None:
        with alike[0].bench.located():
            found = self._taught(alike)
        for ready, taught in zip(alike, found, strict=True):
            with ready.bench.located():
                ready.bench.learned(ready, taught)

    def _taught(self, group: Sequence[_Ready]) -> list[Taught]:
        lessons, rows = [ready.lesson for ready in group], [ready.rows for ready in group]
        if not self.own_process:
            return teach(lessons, [each.source() for each in rows])
        found = []
        for lesson, each in zip(lessons, rows, strict=True):
            if each.file is None or each.scaling is None:
                raise RecipeError(f"trainer.own_process is for rows of numbers in files, scaled each by itself: {each.why}")
            taught, self._resident, self._seconds = taught_apart(lesson, each.file, each.scaling, each.label)
            found.append(taught)
        return found


class _Ready(NamedTuple):
    """A task that can begin.

    Attributes
    ----------
    bench, task, network, role
        Whose it is.
    layers, kept
        The network as it is trained, without neurons that do nothing, and which are left.
    lesson, rows
        What is done.
    """

    bench: _LeanBench
    task: Task
    network: FlatNetwork
    role: str
    layers: Layers
    kept: tuple[Array, ...]
    lesson: Lesson
    rows: Source

    @property
    def key(self) -> Hashable:
        """What tasks that are trained side by side have in common."""
        return -(-len(self.rows.rows) // self.lesson.batch), self.lesson.manner


class _LeanBench(Bench[FlatNetwork]):
    def __init__(
        self, settings: LowmemTrainer, detector: Learnable, job: Job, channels: Sequence[Channel], seed: int, round: int, phase: str
    ) -> None:
        super().__init__(detector, job, channels, seed, round, phase)
        self.settings = settings

    def made(self, layers: Layers) -> FlatNetwork:
        return FlatNetwork(layers)

    def loaded(self, task: Task) -> FlatNetwork:
        network = super().loaded(task)
        received = any(channel.name in task.start and not isinstance(task.start[channel.name], str) for channel in self.channels)
        if self.settings.prune and received:
            # A mean of weights that most nodes pruned is small again.
            network.prune(self.settings.prune)
        return network

    def ready(self, place: int) -> _Ready | None:
        """Load what a task starts from, and say what is to be done; None if that was all."""
        task, settings, optimiser = self.job.work.tasks[place], self.settings, self.detector.optimiser
        network = self.loaded(task)
        if not task.trained:
            return None
        rows, role = self.rows(task, place), task.role or self.detector.role
        layers, vector = network.layers, network.vector()
        kept: tuple[Array, ...] = ()
        if settings.prune:
            layers, vector, full, kept = compacted(layers, vector)
            network.load(full)
        dense, batch, tight = dense_of(layers), task.batch or optimiser.batch, settings.tight
        plan = settings.plan(dense, optimiser, batch, len(rows.samples.scaler.number_places))
        anchor = next((term for term in task.terms if isinstance(term, Proximal)), None)
        lesson = Lesson(
            dense,
            vector.values,
            "cross-entropy" if self.detector.learning == "supervised" else cast(Loss, self.detector.loss),
            batch,
            task.steps_over(len(rows), optimiser.batch),
            Rule(plan.rule, optimiser.decay, optimiser.momentum or MOMENTUM),
            Rate(plan.rate(_rule(optimiser)) * optimiser.rate, optimiser.schedule == "cosine", *task.span),
            settings.penalty.schedule(self._state(role).get("lambda"), settings.prune),
            plan.rows,
            plan.precision,
            plan.lanes,
            seed_of(*self.path, "task", place),
            tight,
            self._kept(role, len(vector.values), STATES[plan.rule]) if task.keep_optimiser else {},
            anchor.mu if anchor is not None else 0.0,
            self._anchor(anchor, network, kept) if anchor is not None else None,
        )
        return _Ready(self, task, network, role, layers, kept, lesson, Source.of(rows, tight))

    def _anchor(self, term: Proximal, network: FlatNetwork, kept: tuple[Array, ...]) -> Array:
        """Return the anchor of a network without the neurons that are left out."""
        return gathered(network.layers, network.vector() if term.anchor is None else term.anchor, kept).values

    def _state(self, role: str) -> dict[str, Any]:
        return {key.removeprefix(f"optimiser.{role}."): kept for key, kept in self.memory.items() if key.startswith(f"optimiser.{role}.")}

    def _kept(self, role: str, size: int, names: Sequence[str]) -> Mapping[str, Any]:
        """Return the state to go on from; none if neurons have been left out since, because it is that of a larger network."""
        state = self._state(role)
        whole = "steps" in state and all(name in state and len(state[name]) == size for name in names)
        return {**{name: state[name] for name in names}, "steps": int(state["steps"])} if whole else {}

    def learned(self, ready: _Ready, taught: Taught) -> None:
        """Take over what came of a task."""
        if not math.isfinite(taught.fit) or not np.isfinite(taught.vector).all():
            raise TrainingDiverged(DIVERGED)
        vector = Vector(taught.vector, layout_of(ready.layers).hash)
        ready.network.load(expanded(ready.network.layers, vector, ready.kept) if ready.kept else vector)
        self.fitted(ready.role, ready.lesson.steps, taught.fit)
        state: dict[str, Any] = {"lambda": taught.weight} if ready.lesson.schedule.growth else {}
        state |= {**taught.state, "steps": float(taught.state["steps"])} if ready.task.keep_optimiser else {}
        self.memory |= {f"optimiser.{ready.role}.{name}": kept for name, kept in state.items()}


def narrowed(detector: N, trainer: LowmemTrainer, width: int) -> N:
    """Return a detector with hidden layers as wide as a trainer's budget allows.

    Parameters
    ----------
    detector
        A learnable one, with ``hidden`` layers if it may be narrower.
    trainer
        Its budget.
    width
        Values of a sample.

    Raises
    ------
    RecipeError
        Nothing fits.
    DetectorMisused
        Its network is of another kind than this trainer knows.
    """
    wishes = [
        trainer.wish(dense_of(layers), detector.optimiser, detector.optimiser.batch, width) for layers in detector.networks(width).values()
    ]
    hidden: Sequence[int] | None = getattr(detector, "hidden", None)
    share = min(planned(wish._replace(may_narrow=wish.may_narrow and hidden is not None)).share for wish in wishes)
    return (
        detector
        if hidden is None or share == 1
        else detector.model_copy(update={"hidden": tuple(max(1, round(share * units)) for units in hidden)})
    )


def _rule(optimiser: Optimiser) -> str:
    return "momentum" if optimiser.name == "sgd" and optimiser.momentum else optimiser.name

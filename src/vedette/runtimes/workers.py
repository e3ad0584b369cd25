"""Workers: the jobs of a phase spread over processes, with results as if one process had done them all."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from vedette.detectors.base import DETECTORS
from vedette.detectors.network import NetworkDetector
from vedette.detectors.oneshot import Federable
from vedette.errors import RecipeError
from vedette.message import Channel, Memory
from vedette.runtimes.cluster.dispatch import Dispatch, OnIncident, Unit
from vedette.runtimes.cluster.incident import Incident
from vedette.runtimes.cluster.pool import Hiring, Pool
from vedette.runtimes.cluster.processes import cores
from vedette.runtimes.cluster.shelf import packed
from vedette.runtimes.cluster.threads import one_thread
from vedette.settings import build, describe
from vedette.training.layout import layout_of
from vedette.training.task import Done, Job, Trainer
from vedette.training.trainers import TRAINERS

__all__ = ["Carried", "Workers", "one_thread"]

Carried: TypeAlias = tuple[str, Done, Memory]

AHEAD = 8
"""Jobs each worker may have waiting, so that none stands idle while a large node in front of it is trained; two units at least."""

SHARES = 4
"""Units a worker gets, at least, of those that could be larger: the last ones to be done should be small."""

SCALERS = 4096
"""Nodes whose scaler a worker remembers."""


class Workers:
    """Carries out the jobs of a phase here or in other processes, with one thread each: the results are the same to the last bit.

    Jobs go out in units of consecutive ones, a bounded number of them ahead, and results come back in order. A unit holds what must stay
    together (`Trainer.unit`), and as much more as is the faster for it (`Trainer.most`), but no more than leaves every worker its share.

    Parameters
    ----------
    count
        Workers; 0 takes one for each core. One of the runtime ``"local"`` trains in this process.
    runtime
        ``"local"``: this process leads and may train; ``"cluster"``: it only leads, unless there is but one node.
    ray
        For ``"cluster"``: a Ray cluster's address or ``"auto"``; None takes processes of this machine.
    least, deadline, on_incident
        See `vedette.runtimes.cluster.dispatch.Dispatch`.
    memory
        Bytes of address space that a worker process may have.

    Raises
    ------
    RecipeError
        Numbers that make no sense.
    """

    def __init__(
        self,
        count: int = 1,
        runtime: Literal["local", "cluster"] = "local",
        ray: str | None = None,
        least: int = 1,
        deadline: float | None = None,
        memory: int | None = None,
        on_incident: OnIncident = lambda _: None,
    ) -> None:
        if runtime == "local" and ray is not None:
            raise RecipeError("Ray is for the runtime 'cluster': add --runtime cluster")
        if ray is not None and memory is not None:
            raise RecipeError("a limit of memory (--worker-memory) is for processes of this machine; Ray has its own")
        self.away = runtime == "cluster"
        self.count = count if count or ray is not None else cores()
        self.dispatch = Dispatch(Hiring(self.count, ray, memory), least, deadline, on_incident)
        self._leading = False

    @property
    def here(self) -> bool:
        """Whether this process does all by itself; what comes up while answers are taken in one by one too, for workers are at work."""
        return self._leading or (not self.away and self.count == 1)

    @property
    def incidents(self) -> Sequence[Incident]:
        """All that went wrong with workers so far."""
        return tuple(self.dispatch.incidents)

    def run(
        self,
        trainer: Trainer,
        detector: Federable,
        jobs: Iterable[Job],
        nodes: int,
        channels: Sequence[Channel],
        seed: int,
        round: int,
        phase: str,
    ) -> Generator[Carried, None, None]:
        """Do the work of many nodes; close it if it is not run to its end, for workers to stop.

        Parameters
        ----------
        trainer, detector, jobs, channels, seed, round, phase
            See `vedette.training.task.Trainer.run`.
        nodes
            How many jobs there are.

        Yields
        ------
        tuple
            Node, what came of it, and the node's new memory, in the order of the jobs.

        Raises
        ------
        VedetteError
            What the trainer raises, in the order of the jobs; or workers that fail again and again over the same jobs.
        """

        def size(workers: int) -> int:
            return trainer.unit * max(1, min(trainer.most // trainer.unit, nodes // (trainer.unit * workers * SHARES)))

        def share(pool: Pool) -> tuple[Iterator[Unit | None], int]:
            together = size(pool.size)
            return _units(told, detector, jobs, together, pool), pool.size * max(2, AHEAD // together)

        if self.here or nodes == 1 or (not self.away and nodes <= size(self.count)):
            with one_thread():
                yield from trainer.run(detector, jobs, channels, seed, round, phase)
            return
        told = _Told(describe(DETECTORS, detector), describe(TRAINERS, trainer), tuple(channels), seed, round, phase)
        with one_thread():
            for done in self.dispatch.run(share, f"{phase}, round {round + 1}"):
                yield from done

    def as_they_come(
        self,
        trainer: Trainer,
        detector: Federable,
        jobs: Iterable[tuple[int, Job] | None],
        channels: Sequence[Channel],
        seed: int,
        phase: str,
    ) -> Generator[Carried, None, None]:
        """Do the work of nodes that do not wait for each other, each by itself, away from here; see `run`.

        Parameters
        ----------
        jobs
            Each with its round; None: there is none until a result was taken. When they end, what is still under way is let go.

        Yields
        ------
        tuple
            See `run`; in the order in which they are done.
        """

        def share(pool: Pool) -> tuple[Iterator[Unit | None], int]:
            expected = _Expected(detector, channels)
            parts = describe(DETECTORS, detector), describe(TRAINERS, trainer), tuple(channels), seed
            return (None if due is None else _unit(_Told(*parts, due[0], phase), expected, [due[1]], pool) for due in jobs), pool.size

        self._leading = True
        try:
            with one_thread():
                for (done,) in self.dispatch.run(share, phase, as_they_come=True):
                    yield done
        finally:
            self._leading = False


class _Told(NamedTuple):
    """What a worker is told beside the jobs."""

    detector: Mapping[str, Any]
    trainer: Mapping[str, Any]
    channels: tuple[Channel, ...]
    seed: int
    round: int
    phase: str


def _units(told: _Told, detector: Federable, jobs: Iterable[Job], size: int, pool: Pool) -> Iterator[Unit]:
    each, expected = iter(jobs), _Expected(detector, told.channels)
    while several := list(islice(each, size)):
        yield _unit(told, expected, several, pool)


def _unit(told: _Told, expected: _Expected, several: Sequence[Job], pool: Pool) -> Unit:
    nodes = tuple(job.node for job in several)
    name = f"node '{nodes[0]}'" if len(nodes) == 1 else f"nodes '{nodes[0]}' to '{nodes[-1]}'"
    step = f"{told.phase}, round {told.round + 1}"
    return Unit(name, step, packed(pool.shelf, (_carry_out, (told, several))), partial(expected.fault, nodes))


class _Expected:
    """Knows results of a phase from nonsense."""

    def __init__(self, detector: Federable, channels: Sequence[Channel]) -> None:
        self.detector, self.channels = detector, {channel.name: channel for channel in channels}
        self._sizes: dict[tuple[str, str], int] = {}

    def fault(self, nodes: Sequence[str], found: Sequence[Carried]) -> str | None:
        """Say what is wrong with what came of some nodes, or None."""
        if [node for node, _, _ in found] != list(nodes):
            return "results of other nodes"
        for node, done, memory in found:
            for name, (values, layout) in done.vectors.items():
                if values.shape != (self._size(name, layout, memory),) or values.dtype != np.float32:
                    return f"weights of node '{node}' ({name}): {values.dtype} {values.shape} is none of their shapes"
                if not np.isfinite(values).all():
                    return f"weights of node '{node}' ({name}) that are no finite numbers"
        return None

    def _size(self, name: str, layout: str, memory: Memory) -> int | None:
        """Return how many values a layout has; None if the detector's networks have no such layout."""
        if (name, layout) not in self._sizes:
            channel, fitted = self.channels[name], self.detector.restored(memory)
            assert isinstance(fitted, NetworkDetector)
            layers = fitted.networks(fitted.window.size * fitted.scaler.width)[channel.role or fitted.role]
            due = layout_of(layers).part(channel.part, channel.holds)
            if due.hash != layout:
                return None
            self._sizes[name, layout] = due.size
        return self._sizes[name, layout]


def _carry_out(told: _Told, jobs: Sequence[Job]) -> list[Carried]:
    """Do a unit's jobs, in a worker."""
    detector, trainer = _built(json.dumps([told.detector, told.trainer]), told.seed)
    return list(trainer.run(detector, [_known(job) for job in jobs], told.channels, told.seed, told.round, told.phase))


@lru_cache(maxsize=1)
def _built(plan: str, seed: int) -> tuple[Federable, Trainer]:
    """Build what a run needs, once: what trainers keep from round to round stays."""
    of_detector, of_trainer = json.loads(plan)
    detector, trainer = build(DETECTORS, of_detector, "plan, detector"), build(TRAINERS, of_trainer, "plan, trainer")
    assert isinstance(detector, Federable)
    _scalers.clear()
    return detector, trainer


_scalers: dict[bytes, Any] = {}


def _known(job: Job) -> Job:
    """Let a node's scaler be the same array as the last time: trainers know by that that rows need not be scaled again."""
    numbers = job.memory.get("scaling.numbers")
    if not isinstance(numbers, np.ndarray) or len(_scalers) >= SCALERS:
        return job
    kept = _scalers.setdefault(numbers.tobytes(), numbers)
    return job._replace(memory={**job.memory, "scaling.numbers": kept}) if kept.shape == numbers.shape else job

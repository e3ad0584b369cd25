"""The cohort trainer: nodes with equal tasks are trained together, in batched matrix products."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from vedette.errors import TrainingDiverged
from vedette.message import Array, Channel, Memory, Vector
from vedette.seeds import streams
from vedette.training.bench import located, together
from vedette.training.cohort.bench import Lesson, Ready, StackBench
from vedette.training.cohort.feed import Feed
from vedette.training.cohort.kept import Kept
from vedette.training.cohort.stack import Stack
from vedette.training.cohort.stacked import Stacked
from vedette.training.layers import needs_torch
from vedette.training.rows import TrainingRows
from vedette.training.task import Answered, Done, Job, Learnable, Trainer, Work
from vedette.training.trainer import DIVERGED, LoopTrainer

__all__ = ["CohortTrainer"]

CACHE = {"sgd": 3 << 20, "adam": 5 << 20, "adamw": 5 << 20}
"""Bytes that what a chunk works on in a step should not exceed, by optimiser (benchmarks/cohort.py)."""

MOST, UNIT = 64, 256
"""Nodes trained side by side, at most; and nodes that are looked at together."""

WIDE = 1024
"""The same, both, on an accelerator, which has use for many at once."""

KEPT = 256 << 20
"""Bytes of scaled rows that are kept from round to round."""


class CohortTrainer(Trainer):
    """Trains dense networks of many nodes side by side, all others one by one with torch.

    Weights are those of the ordinary trainer to 1e-6 after the same batches.

    Parameters
    ----------
    chunk
        Nodes side by side; 0: as many as fit a cache.
    device
        ``"numpy"``; or by torch on ``"cuda"``, or on ``"cpu"``, which is slower than NumPy and there to try what runs on CUDA.
    threads
        How many of them train chunks at once, with ``"numpy"``; large batches gain most. Results are the same, to the last bit.
    """

    chunk: int = Field(default=0, ge=0)
    device: Literal["numpy", "cpu", "cuda"] = "numpy"
    threads: int = Field(default=1, ge=1, le=64)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.threads > 1 and self.device != "numpy":
            raise ValueError("threads train with NumPy; an accelerator is given all at once (threads = 1)")
        return self

    _kept: Kept = PrivateAttr(default_factory=lambda: Kept(KEPT))

    @property
    def most(self) -> int:
        """Nodes that are looked at together; what a node comes to does not depend on the others, to the last bit."""
        return max(self.chunk, WIDE if self.device == "cuda" else UNIT)

    def refuses(self, detector: Learnable, work: Work) -> str | None:
        if self.device == "cuda" and not needs_torch().cuda.is_available():
            return "there is no CUDA device here, or this torch does not know it: leave trainer.device out, or set it to 'numpy'"
        return None

    def run(
        self, detector: Learnable, jobs: Iterable[Job], channels: Sequence[Channel], seed: int, round: int, phase: str
    ) -> Iterator[tuple[str, Done, Memory]]:
        """Do the work of many nodes; see `vedette.training.task.Trainer`."""
        waiting, kept = iter(jobs), self._kept
        while unit := list(islice(waiting, self.most)):
            benches = [StackBench(kept, detector, job, channels, seed, round, phase) for job in unit]
            together([bench for bench in benches if bench.stackable], StackBench.ready, Ready.alike, self._trained)
            for bench in benches:
                if bench.stackable:
                    with bench.located():
                        done, memory = bench.ended()
                    yield bench.job.node, done, memory
                else:
                    yield from LoopTrainer().run(detector, [bench.job], channels, seed, round, phase)

    def run_alike(
        self, detector: Learnable, jobs: Iterable[Job], channels: Sequence[Channel], seed: int, round: int, phase: str
    ) -> Iterator[Answered]:
        """Do the same work on many nodes; see `vedette.training.task.Trainer`."""
        waiting = iter(jobs)
        while unit := list(islice(waiting, self.most)):
            first = StackBench(self._kept, detector, unit[0], channels, seed, round, phase)
            group = self._alike(first, unit) if first.is_plain() else None
            if group is not None:
                yield from self._answered(first, group)
                continue
            for node, done, _ in self.run(detector, unit, channels, seed, round, phase):
                vectors = {name: Vector(vector.values[None], vector.layout) for name, vector in done.vectors.items()}
                yield Answered((node,), vectors, {name: np.array([fact], dtype=np.float64) for name, fact in done.answers.facts.items()})

    def chunks(self, lesson: Lesson, detector: Learnable, count: int) -> list[slice]:
        """Cut so many nodes up into those that are trained side by side, about equally many each."""
        fitting = CACHE[detector.optimiser.name] // Stack.room_of(lesson.shape.dense, lesson.batch, detector.optimiser)
        most = self.chunk or (WIDE if self.device == "cuda" else max(1, min(MOST, fitting)))
        size = -(-count // -(-count // most))
        return [slice(start, start + size) for start in range(0, count, size)]

    def _alike(self, first: StackBench, unit: Sequence[Job]) -> list[Ready] | None:
        """Return what the nodes of a unit train, if it differs in their rows alone."""
        with first.located():
            lead = first.ready(0)
        if lead is None:
            return None
        kept, found, lessons = self._kept, [lead], {lead.lesson.size: lead.lesson}
        for job in unit[1:]:
            rows = kept.rows_of(first.detector, job.rows, job.memory)
            if rows is None:
                with located(job.node, first.round):
                    rows = TrainingRows(first.detector, job.rows, job.memory)
                if rows.samples.width != first.width or not len(rows):
                    return None
                kept.keep(first.detector, job.memory, rows)
            size = len(rows)
            if size not in lessons:
                lessons[size] = lead.lesson.over(size, first.detector)
            found.append(Ready(first, job.node, lessons[size], rows, lead.start, lead.anchor, lead.state))
        return found

    def _answered(self, first: StackBench, group: Sequence[Ready]) -> Iterator[Answered]:
        """Train networks that begin alike, and yield what their nodes answer."""
        lesson, alike = group[0].lesson, dict[Hashable, list[Ready]]()
        for ready in group:
            alike.setdefault(ready.alike(), []).append(ready)
        if len(alike) == 1:
            # Summed up at once, while they are in the cache.
            for some, stack, losses in self._descended(group):
                yield self._answer(first, some, stack.weights, losses)
            return
        places = {ready.node: place for place, ready in enumerate(group)}
        weights, all_losses = self._kept.room_for(len(group), lesson.shape.layout.size), np.empty(len(group))
        for those in alike.values():
            for some, stack, losses in self._descended(those):
                at = [places[ready.node] for ready in some]
                weights[at], all_losses[at] = stack.weights, losses
        yield self._answer(first, group, weights, all_losses)

    def _answer(self, first: StackBench, group: Sequence[Ready], weights: Array, losses: Array) -> Answered:
        lesson, vectors = group[0].lesson, {}
        for channel in first.channels:
            layout, at = lesson.shape.part(channel.part, channel.holds)
            vectors[channel.name] = Vector(weights if layout.size == weights.shape[1] else weights[:, at], layout.hash)
        steps = np.array([ready.lesson.steps for ready in group], dtype=np.float64)
        rows = np.array([len(ready.rows.samples) for ready in group], dtype=np.float64)
        return Answered(
            [ready.node for ready in group], vectors, {"rows": rows, "steps": steps, "loss": losses, f"loss.{lesson.role}": losses}
        )

    def _trained(self, alike: Sequence[Ready]) -> None:
        for group, stack, losses in self._descended(alike):
            lesson, weights = group[0].lesson, stack.weights.copy()
            for place, (ready, loss) in enumerate(zip(group, losses.tolist(), strict=True)):
                ready.bench.networks[lesson.role].values = weights[place]
                ready.bench.fitted(lesson.role, lesson.steps, loss)
                if lesson.task.keep_optimiser:
                    ready.bench.keep(lesson.role, lesson.shape, {name: kept[place] for name, kept in stack.state.items()}, stack.steps)

    def _descended(self, alike: Sequence[Ready]) -> Iterator[tuple[Sequence[Ready], Stacked, Array]]:
        """Train networks side by side, chunk by chunk; yield whose, where their weights are until the next, and their losses [nodes]."""
        lesson, bench = alike[0].lesson, alike[0].bench
        rngs = streams(bench.path[:-1], [ready.node for ready in alike], ("task", lesson.place))
        parts = self.chunks(lesson, bench.detector, len(alike))
        if self.threads == 1 or len(parts) == 1:
            for part in parts:
                yield alike[part], *self._descend(alike[part], rngs[part])
            return
        at_work = deque[tuple[slice, Future[tuple[Stacked, Array]]]]()
        with ThreadPoolExecutor(self.threads) as pool:
            for number, part in enumerate(parts):
                # Whoever was told of a chunk is done with it when asking for the next, and its room is free.
                if len(at_work) == self.threads:
                    done, found = at_work.popleft()
                    yield alike[done], *found.result()
                at_work.append((part, pool.submit(self._descend, alike[part], rngs[part], number % self.threads)))
            for done, found in at_work:
                yield alike[done], *found.result()

    def _descend(self, group: Sequence[Ready], rngs: Sequence[np.random.Generator], place: int = 0) -> tuple[Stacked, Array]:
        """Train one chunk, in the room of a place; return where its weights are, and losses [nodes]."""
        lesson, bench = group[0].lesson, group[0].bench
        task, settings, steps = lesson.task, bench.detector.optimiser, lesson.steps
        stack = self._kept.stack(bench.detector, lesson.shape, len(group), lesson.batch, self.device, place)
        state = {name: _stacked([ready.state[name] for ready in group]) for name in stack.state} if lesson.begun else {}
        stack.begin(_stacked([ready.start for ready in group]), state, lesson.begun)
        pull = (lesson.mu, _stacked([ready.anchor for ready in group if ready.anchor is not None])) if lesson.mu else None
        feed = Feed(group, rngs, stack)
        total, seen = np.zeros(len(group)), np.zeros(len(group))
        # What diverges is told in the end, by node.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for number in range(steps):
                inputs, labels, held = feed.batch_of(number, steps)
                fit = stack.step(inputs, labels, held, task.rate_at(settings, number / steps), pull)
                # What is reported is the fit to the rows in the last pass over them, without the terms, so that strategies compare.
                if steps - number <= feed.passes:
                    total += fit * held
                    seen += held
            finite = stack.finite() & np.isfinite(total)
        if not finite.all():
            with located(group[int(finite.argmin())].node, bench.round):
                raise TrainingDiverged(DIVERGED)
        return stack, total / seen


def _stacked(vectors: Sequence[Array]) -> Array:
    """Return [nodes, parameters], or the one vector that all of them are."""
    first = vectors[0]
    return first if all(vector is first for vector in vectors) else np.stack(vectors)

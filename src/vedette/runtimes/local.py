"""The local runtime: a whole fleet on this machine, with a coordinator or among peers."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from vedette.data.fleet import Fleet
from vedette.detectors.oneshot import Federable
from vedette.errors import CheckpointError, DataUnusable
from vedette.message import Memory, Message
from vedette.runtimes.base import OnRound, Outcome, Plan, Round, Stage, digest
from vedette.runtimes.checkpoint import State, load_state, save_state
from vedette.runtimes.meetings import Hearing
from vedette.runtimes.phase import Phase, Run, inbox_of, run_of
from vedette.runtimes.workers import Carried, Workers, one_thread
from vedette.training.task import Job, Work

__all__ = ["LocalRuntime", "OnNodes"]

OnNodes: TypeAlias = Callable[[int, int], None]
"""Called with how many nodes are done in the current phase, and of how many: 0 when it begins, then after each."""


class LocalRuntime:
    """Runs all nodes of a fleet on this machine, checkpointed after every round; where a round is one answer, after one for each node.

    Parameters
    ----------
    fleet
        Training rows by node.
    calibration
        Rows by node that set thresholds; the training rows if absent.
    checkpoint
        File to keep the state in; None keeps none.
    resume
        Go on from the checkpoint if there is one. Of its last round is told once more: whoever was told may not have got to the end.
    start
        Memories to go on from, as an earlier run left them: their scaling stays, nothing is prepared anew.
    workers
        Processes that train; 1 trains in this one, 0 takes as many as there are cores. The results are the same, and a run may be resumed
        with another number. `Workers` may be given too, with all that can be said of them.
    on_nodes
        Told how far a phase is.

    Raises
    ------
    DataUnusable
        A node without calibration rows.
    RecipeError, MissingExtra
        See `Workers`.
    """

    def __init__(
        self,
        fleet: Fleet,
        calibration: Fleet | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        start: Mapping[str, Memory] | None = None,
        workers: int | Workers = 1,
        on_nodes: OnNodes = lambda *_: None,
    ) -> None:
        self.fleet, self.calibration = fleet, calibration or fleet
        self.checkpoint, self.resume = checkpoint, resume
        self.start, self.on_nodes = start, on_nodes
        self.workers = workers if isinstance(workers, Workers) else Workers(workers)
        lacking = next((node for node in fleet if node not in self.calibration), None)
        if lacking is not None:
            raise DataUnusable(f"node '{lacking}' has training rows but no calibration rows")

    def run(self, plan: Plan, on_round: OnRound = lambda *_: None) -> Outcome:
        """Run prepare, rounds and calibrate; see `vedette.runtimes.base.Runtime`."""
        run = run_of(plan)
        stages = run.stages
        self._can_calibrate(run.detector)
        mark, before = digest(plan), len(self.workers.incidents)
        if self.checkpoint is not None and self.resume and self.checkpoint.exists():
            state = load_state(self.checkpoint, mark)
            if set(state.memories) != set(self.fleet):
                raise CheckpointError(f"{self.checkpoint} belongs to a run among other nodes; resume with the data and partition it had")
        else:
            state = State({node: {} if self.start is None else self.start[node] for node in self.fleet})
            state.stage = 0 if self.start is None else [stage.name for stage in stages].index("rounds")
        if state.round:
            on_round(state.history[-1], lambda: self._ended(run, state))
        while state.stage < len(stages):
            stage = stages[state.stage]
            # Where a round is one answer, writing after each would take longer than the answers do.
            every = 1 if stage.strategy.arrivals is None else len(self.fleet)
            with contextlib.closing(self._rounds(run, stage, state)) as rounds:
                for _ in rounds:
                    if state.round % every == 0:
                        self._keep(state, mark)
                    on_round(state.history[-1], lambda: self._ended(run, state))
            self._close(run, stage, state)
            self._keep(state, mark)
        return Outcome(state.memories, state.history, state.exchanged, self.workers.incidents[before:])

    def _can_calibrate(self, detector: Federable) -> None:
        """Notice before all the training, not after it, that there will be nothing to set a threshold by."""
        if self.calibration is not self.fleet and detector.threshold.fit == "local":
            lacking = next((node for node in self.fleet if not len(self.calibration[node].normal())), None)
            if lacking is not None:
                raise DataUnusable(
                    f"node '{lacking}' has no normal calibration rows to set a threshold of its own by; "
                    "hold more rows out (calibration) or set one threshold for all (threshold.fit = 'federated')"
                )

    def _keep(self, state: State, mark: str) -> None:
        if self.checkpoint is not None:
            save_state(self.checkpoint, state, mark)

    def _close(self, run: Run, stage: Stage, state: State) -> None:
        """End a stage: its closing phases, and on to the next."""
        for phase in stage.strategy.closing:
            self._phase(run, stage, phase, state, closing=True)
        state.exchanged[stage.name] = state.ours
        state.stage, state.round, state.inbox, state.ours, state.groups = state.stage + 1, 0, {}, {}, {}

    def _ended(self, run: Run, state: State) -> Mapping[str, Memory]:
        """Return the memories as they were if this round were the last of its stage; the run itself goes on from where it was."""
        copy = replace(state, memories=dict(state.memories), exchanged=dict(state.exchanged), history=list(state.history))
        self._close(run, run.stages[copy.stage], copy)
        for stage in run.stages[copy.stage :]:
            while copy.round < stage.strategy.rounds:
                self._round(run, stage, copy)
            self._close(run, stage, copy)
        return copy.memories

    def _rounds(self, run: Run, stage: Stage, state: State) -> Generator[None, None, None]:
        """Go through what rounds are left of a stage."""
        if self.workers.away and run.topology.central and len(self.fleet) > 1 and stage.strategy.arrivals == ():
            yield from self._arrivals(run, stage, state)
        while state.round < stage.strategy.rounds:
            self._round(run, stage, state)
            yield

    def _arrivals(self, run: Run, stage: Stage, state: State) -> Generator[None, None, None]:
        """Go through rounds as answers come: each node is sent what comes of its own and goes on, while the others are at work."""
        (name,) = stage.strategy.phases
        starts: dict[str, Message] = {}

        def sent(node: str) -> Phase:
            return Phase(run, stage, state.round, name, self.fleet.nodes).as_sent(node, state.history)

        # Of a run that is resumed, who waited longest goes first.
        due = deque(sorted(self.fleet, key=lambda node: sent(node).round))

        def jobs() -> Iterator[tuple[int, Job] | None]:
            while state.round < stage.strategy.rounds:
                if not due:
                    yield None
                    continue
                node = due.popleft()
                phase = sent(node)
                for job in self._watched(phase, self._jobs(phase, state, [node]), starts):
                    yield phase.round, job

        trainer, channels = run.trainer, stage.strategy.channels
        with contextlib.closing(self.workers.as_they_come(trainer, run.detector, jobs(), channels, run.seed, name)) as come:
            for carried in come:
                self._round(run, stage, state, carried, starts)
                due.append(carried[0])
                yield

    def _round(self, run: Run, stage: Stage, state: State, come: Carried | None = None, starts: dict[str, Message] | None = None) -> None:
        entry = Round(stage.name, state.round + 1, stage.strategy.rounds, None, 0, 0)
        for phase in stage.strategy.phases:
            entry = entry.plus(self._phase(run, stage, phase, state, come=come, starts=starts))
        state.round += 1
        state.history.append(entry._replace(epsilon=run.spent(state.stage, state.round)))

    def _phase(
        self,
        run: Run,
        stage: Stage,
        name: str,
        state: State,
        closing: bool = False,
        come: Carried | None = None,
        starts: dict[str, Message] | None = None,
    ) -> Round:
        """Let every node work and answer, or take in what has come, then exchange; return what happened."""
        phase = Phase(run, stage, state.round, name, self.fleet.nodes, closing)
        nodes, starts = phase.takes_part() if come is None else (come[0],), {} if starts is None else starts
        alone = phase.strategy.arrivals is not None and not closing
        begun = phase.as_sent(nodes[0], state.history) if alone else phase
        hearing = Hearing(phase.strategy, phase.meetings(nodes), state.groups, phase.attackers)
        self.on_nodes(0, len(nodes))
        together = phase.forgets and not alone and hearing.sums and self.workers.here
        told = self._alike(phase, state, nodes, hearing) if together else None
        if told is None:
            carried = self._carried(begun, state, nodes, starts) if come is None else (each for each in (come,))
            told = self._each(begun, state, hearing, carried, len(nodes))
        weighted, rows = told
        late = {nodes[0]: phase.round - begun.round} if alone else {}
        entry = Round(stage.name, state.round + 1, phase.strategy.rounds, weighted / rows if rows else None, 0, 0, late=late)
        if closing:
            return entry
        received = phase.exchange(hearing, starts, state)
        return entry._replace(sent=hearing.sent, received=received, refused=hearing.refused)

    def _carried(self, phase: Phase, state: State, nodes: Sequence[str], starts: dict[str, Message]) -> Generator[Carried, None, None]:
        """Have nodes work."""
        run, jobs = phase.run, self._watched(phase, self._jobs(phase, state, nodes), starts)
        return self.workers.run(run.trainer, run.detector, jobs, len(nodes), phase.strategy.channels, run.seed, phase.round, phase.name)

    def _each(
        self, phase: Phase, state: State, hearing: Hearing, carried: Generator[Carried, None, None], count: int
    ) -> tuple[float, float]:
        """Have nodes answer one by one; return the sum of their losses, weighted by rows, and of their rows."""
        weighted, rows = 0.0, 0.0
        with contextlib.closing(carried):
            for number, (node, done, memory) in enumerate(carried, 1):
                message, state.memories[node] = phase.answer(node, done, memory)
                if not phase.closing:
                    hearing.hear(node, message)
                if "loss" in done.answers.facts:
                    held = float(done.answers.facts["rows"])
                    weighted, rows = weighted + held * float(done.answers.facts["loss"]), rows + held
                self.on_nodes(number, count)
        return weighted, rows

    def _alike(self, phase: Phase, state: State, nodes: Sequence[str], hearing: Hearing) -> tuple[float, float] | None:
        """Have nodes that do the same work do it together, if the trainer can; see `_each`."""
        run, strategy, weighted, rows, number = phase.run, phase.strategy, 0.0, 0.0, 0
        work = phase.demand_doable(strategy.work(phase.turn, inbox_of(state.inbox, "*"), {})) if strategy.alike else None
        if work is None or not work.leaves_nothing:
            return None
        with one_thread():
            jobs = self._jobs(phase, state, nodes, work)
            carried = run.trainer.run_alike(run.detector, jobs, strategy.channels, run.seed, phase.round, phase.name)
            if carried is None:
                return None
            for answered in carried:
                hearing.hear_all(answered)
                if "loss" in answered.facts:
                    for count, loss in zip(answered.facts["rows"].tolist(), answered.facts["loss"].tolist(), strict=True):
                        weighted, rows = weighted + count * loss, rows + count
                number += len(answered.nodes)
                self.on_nodes(number, len(nodes))
        return weighted, rows

    def _watched(self, phase: Phase, jobs: Iterable[Job], starts: dict[str, Message]) -> Iterator[Job]:
        """Pass jobs on, and note where the networks of compromised nodes set out from: what they received, or their own."""
        run = phase.run
        for job in jobs:
            if job.node in phase.attackers.nodes:
                still = Work(job.work.keep, tuple(task._replace(epochs=0.0, steps=None) for task in job.work.tasks))
                untrained = [job._replace(work=still)]
                for node, done, _ in run.trainer.run(run.detector, untrained, phase.strategy.channels, run.seed, phase.round, phase.name):
                    starts[node] = Message(vectors=done.vectors)
            yield job

    def _jobs(self, phase: Phase, state: State, nodes: Sequence[str], alike: Work | None = None) -> Iterator[Job]:
        """Yield what nodes shall do: each what the strategy says for it, or all the same."""
        fleet = self.calibration if phase.stage.name == "calibrate" else self.fleet
        for node in nodes:
            memory, rows = state.memories[node], fleet[node]
            if not len(rows) and phase.stage.name != "calibrate":
                raise DataUnusable(f"node '{node}' has no training rows; check the partition and the labels")
            yield Job(node, rows, alike or phase.work(node, inbox_of(state.inbox, node), memory), memory)

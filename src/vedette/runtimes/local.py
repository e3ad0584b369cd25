"""The local runtime: a whole fleet on this machine, with a coordinator or among peers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

from vedette.data.fleet import Fleet
from vedette.detectors.oneshot import Federable
from vedette.errors import CheckpointError, DataUnusable, RecipeError
from vedette.message import Memory, Message, bytes_of
from vedette.runtimes.base import OnRound, Outcome, Plan, Round, Stage, digest, stages_of
from vedette.runtimes.checkpoint import State, load_state, save_state
from vedette.runtimes.meetings import Attackers, Hearing, Meeting, meetings
from vedette.runtimes.topology import TOPOLOGIES, Topology
from vedette.runtimes.workers import Workers, one_thread
from vedette.seeds import stream
from vedette.settings import build, validated
from vedette.strategies.base import Strategy, Turn
from vedette.training.task import Job, Trainer, Work
from vedette.training.trainers import TRAINERS

__all__ = ["LocalRuntime", "OnNodes"]

OnNodes: TypeAlias = Callable[[int, int], None]
"""Called with how many nodes are done in the current phase, and of how many: 0 when it begins, then after each."""


class _Run(NamedTuple):
    """What a plan says."""

    detector: Federable
    stages: list[Stage]
    topology: Topology
    attackers: Attackers
    trainer: Trainer
    seed: int


class LocalRuntime:
    """Runs all nodes of a fleet on this machine, checkpointed after every round.

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
        with another number.
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
        workers: int = 1,
        on_nodes: OnNodes = lambda *_: None,
    ) -> None:
        self.fleet, self.calibration = fleet, calibration or fleet
        self.checkpoint, self.resume = checkpoint, resume
        self.start, self.workers, self.on_nodes = start, Workers(workers), on_nodes
        lacking = next((node for node in fleet if node not in self.calibration), None)
        if lacking is not None:
            raise DataUnusable(f"node '{lacking}' has training rows but no calibration rows")

    def run(self, plan: Plan, on_round: OnRound = lambda *_: None) -> Outcome:
        """Run prepare, rounds and calibrate; see `vedette.runtimes.base.Runtime`."""
        detector, stages = stages_of(plan)
        attackers = validated(Attackers, plan["attackers"], "plan, attackers")
        topology = build(TOPOLOGIES, plan["topology"], "plan, topology")
        trainer = build(TRAINERS, plan["trainer"], "plan, trainer")
        run = _Run(detector, stages, topology, attackers, trainer, int(plan["seed"]))
        self._can_calibrate(detector)
        mark = digest(plan)
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
            while state.round < stage.strategy.rounds:
                self._round(run, stage, state)
                self._keep(state, mark)
                on_round(state.history[-1], lambda: self._ended(run, state))
            self._close(run, stage, state)
            self._keep(state, mark)
        return Outcome(state.memories, state.history, state.exchanged)

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

    def _close(self, run: _Run, stage: Stage, state: State) -> None:
        """End a stage: its closing phases, and on to the next."""
        for phase in stage.strategy.closing:
            self._phase(run, stage, phase, state, closing=True)
        state.exchanged[stage.name] = state.ours
        state.stage, state.round, state.inbox, state.ours, state.groups = state.stage + 1, 0, {}, {}, {}

    def _ended(self, run: _Run, state: State) -> Mapping[str, Memory]:
        """Return the memories as they were if this round were the last of its stage; the run itself goes on from where it was."""
        copy = replace(state, memories=dict(state.memories), exchanged=dict(state.exchanged), history=list(state.history))
        self._close(run, run.stages[copy.stage], copy)
        for stage in run.stages[copy.stage :]:
            while copy.round < stage.strategy.rounds:
                self._round(run, stage, copy)
            self._close(run, stage, copy)
        return copy.memories

    def _round(self, run: _Run, stage: Stage, state: State) -> None:
        entry = Round(stage.name, state.round + 1, stage.strategy.rounds, None, 0, 0)
        for phase in stage.strategy.phases:
            entry = entry.plus(self._phase(run, stage, phase, state))
        state.round += 1
        state.history.append(entry)

    def _phase(self, run: _Run, stage: Stage, phase: str, state: State, closing: bool = False) -> Round:
        """Let every node work and answer, then exchange; return what happened."""
        strategy, seed, path = stage.strategy, run.seed, ("stage", stage.name, "round", state.round)
        turn = Turn(state.round, phase, self.fleet.nodes, {}, partial(stream, seed, *path, "exchange", phase))
        nodes = self.fleet.nodes if closing else tuple(strategy.takes_part(self.fleet.nodes, partial(stream, seed, *path, "sample")))
        found = {} if closing else self._met(meetings(run.topology, strategy, self.fleet.nodes, state.round, seed), nodes)
        attackers = run.attackers if stage.name == "rounds" and not closing else Attackers()
        hearing = Hearing(strategy, found, state.groups, attackers)
        starts: dict[str, Message] = {}
        # What the coordinator sends next takes the place of a node's own network: a hundred thousand of them need not be kept.
        forgets = strategy.begins_anew and run.topology.central and not closing
        self.on_nodes(0, len(nodes))
        told = self._alike(run, stage, turn, state, nodes, hearing) if forgets and hearing.sums and self.workers.count == 1 else None
        if told is not None:
            weighted, rows = told
        else:
            jobs = self._watched(run, self._jobs(run, stage, turn, state, nodes), attackers, turn, strategy, starts)
            weighted, rows = self._each(run, stage, turn, state, nodes, jobs, hearing, closing, forgets)
        entry = Round(stage.name, state.round + 1, strategy.rounds, weighted / rows if rows else None, 0, 0)
        if closing:
            return entry
        received = self._exchange(stage, turn, hearing, starts, state, seed)
        return entry._replace(sent=hearing.sent, received=received, refused=hearing.refused)

    def _each(
        self,
        run: _Run,
        stage: Stage,
        turn: Turn,
        state: State,
        nodes: Sequence[str],
        jobs: Iterable[Job],
        hearing: Hearing,
        closing: bool,
        forgets: bool,
    ) -> tuple[float, float]:
        """Have nodes work and answer one by one; return the sum of their losses, weighted by rows, and of their rows."""
        strategy, seed, phase, path = stage.strategy, run.seed, turn.phase, ("stage", stage.name, "round", state.round)
        weighted = rows = 0.0
        carried = self.workers.run(run.trainer, run.detector, jobs, len(nodes), strategy.channels, seed, state.round, phase)
        with contextlib.closing(carried):
            for number, (node, done, memory) in enumerate(carried, 1):
                own = turn._replace(node=node, rng=partial(stream, seed, *path, phase, "answer", node))
                try:
                    message, memory = strategy.answer(own, done, memory)
                except DataUnusable as error:
                    raise DataUnusable(f"node '{node}': {error}") from None
                state.memories[node] = _without_networks(memory) if forgets else memory
                if not closing:
                    hearing.hear(node, message)
                if "loss" in done.answers.facts:
                    count = float(done.answers.facts["rows"])
                    weighted, rows = weighted + count * float(done.answers.facts["loss"]), rows + count
                self.on_nodes(number, len(nodes))
        return weighted, rows

    def _alike(
        self, run: _Run, stage: Stage, turn: Turn, state: State, nodes: Sequence[str], hearing: Hearing
    ) -> tuple[float, float] | None:
        """Have nodes that begin anew do the same work together, if the trainer can; see `_each`."""
        work, channels = stage.strategy.work(turn, _inbox(state.inbox, "*"), {}), stage.strategy.channels
        if not work.leaves_nothing:
            return None
        weighted, rows, number = 0.0, 0.0, 0
        with one_thread():
            carried = run.trainer.run_alike(
                run.detector, self._jobs(run, stage, turn, state, nodes, work), channels, run.seed, state.round, turn.phase
            )
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

    def _met(self, found: Mapping[str, Meeting], nodes: Sequence[str]) -> dict[str, Meeting]:
        """Return the meetings of those that take part; a peer that does not meets nobody."""
        if len(nodes) == len(self.fleet):
            return dict(found)
        known = set(nodes)
        there = {who: meeting._replace(members=tuple(node for node in meeting.members if node in known)) for who, meeting in found.items()}
        return {who: meeting for who, meeting in there.items() if who == "*" or (who in known and meeting.members)}

    def _exchange(self, stage: Stage, turn: Turn, hearing: Hearing, starts: Mapping[str, Message], state: State, seed: int) -> int:
        """Let every meeting exchange; return the bytes that a coordinator sent back."""
        inbox, ours, groups = dict(state.inbox), dict(state.ours), dict(state.groups)
        received = 0
        for who, meeting, view in hearing.views(turn, starts):
            if who != "*" and not view.nodes:
                # All that a peer heard was refused: it goes on with what it has.
                inbox |= dict.fromkeys(meeting.receivers, Message())
                continue
            own = turn._replace(receivers=meeting.receivers)
            if who != "*":
                own = own._replace(
                    node=who, rng=partial(stream, seed, "stage", stage.name, "round", state.round, "exchange", turn.phase, who)
                )
            reply = stage.strategy.exchange(own, view, state.ours.get(who, {}))
            # What a reply leaves out stays as it was.
            if reply.memory is not None:
                ours[who] = reply.memory
            if reply.groups is not None:
                groups[who] = reply.groups
            if reply.messages is None:
                continue
            if who == "*":
                # Who took no part keeps what it was sent before.
                stays = stage.strategy.sample < 1 and "*" not in reply.messages
                inbox = {**inbox, **reply.messages} if stays else dict(reply.messages)
                for_all = bytes_of(inbox["*"]) if "*" in inbox else 0
                received += sum(bytes_of(inbox[node]) if node in inbox else for_all for node in meeting.receivers)
            else:
                inbox |= {node: _inbox(reply.messages, node) for node in meeting.receivers}
        state.inbox, state.ours, state.groups = inbox, ours, groups
        return received

    def _watched(
        self, run: _Run, jobs: Iterable[Job], attackers: Attackers, turn: Turn, strategy: Strategy, starts: dict[str, Message]
    ) -> Iterator[Job]:
        """Pass jobs on, and note where the networks of compromised nodes set out from: what they received, or their own."""
        for job in jobs:
            if job.node in attackers.nodes:
                still = Work(job.work.keep, tuple(task._replace(epochs=0.0, steps=None) for task in job.work.tasks))
                untrained = job._replace(work=still)
                for node, done, _ in run.trainer.run(run.detector, [untrained], strategy.channels, run.seed, turn.round, turn.phase):
                    starts[node] = Message(vectors=done.vectors)
            yield job

    def _jobs(self, run: _Run, stage: Stage, turn: Turn, state: State, nodes: Sequence[str], alike: Work | None = None) -> Iterator[Job]:
        """Yield what nodes shall do: each what the strategy says for it, or all the same."""
        fleet = self.calibration if stage.name == "calibrate" else self.fleet
        path = "stage", stage.name, "round", state.round, turn.phase, "work"
        for node in nodes:
            memory, rows = state.memories[node], fleet[node]
            if not len(rows) and stage.name != "calibrate":
                raise DataUnusable(f"node '{node}' has no training rows; check the partition and the labels")
            work = alike
            if work is None:
                own = turn._replace(node=node, rng=partial(stream, run.seed, *path, node))
                work = stage.strategy.work(own, _inbox(state.inbox, node), memory)
            if work is not alike or node == nodes[0]:
                reason = run.trainer.refuses(run.detector, work)
                if reason:
                    raise RecipeError(reason)
            yield Job(node, rows, work, memory)


def _without_networks(memory: Memory) -> Memory:
    return {key: value for key, value in memory.items() if not key.startswith(("network.", "layout."))}


def _inbox(inbox: Mapping[str, Message], node: str) -> Message:
    return inbox.get(node, inbox.get("*", Message()))

"""The local runtime: a whole fleet in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from vedette.data.fleet import Fleet
from vedette.detectors.oneshot import Federable
from vedette.errors import CheckpointError, DataUnusable, RecipeError
from vedette.message import Memory, Message, bytes_of
from vedette.runtimes.base import OnRound, Outcome, Plan, Round, Stage, digest, stages_of
from vedette.runtimes.checkpoint import State, load_state, save_state
from vedette.seeds import stream
from vedette.strategies.base import Turn
from vedette.strategies.view import Answers
from vedette.training.task import Job, Trainer
from vedette.training.trainer import LoopTrainer

__all__ = ["LocalRuntime"]


class LocalRuntime:
    """Runs all nodes of a fleet in this process, checkpointed after every round.

    Parameters
    ----------
    fleet
        Training rows by node.
    calibration
        Rows by node that set thresholds; the training rows if absent.
    checkpoint
        File to keep the state in; None keeps none.
    resume
        Go on from the checkpoint if there is one.
    trainer
        Who trains.
    start
        Memories to go on from, as an earlier run left them: their scaling stays, nothing is prepared anew.
    """

    def __init__(
        self,
        fleet: Fleet,
        calibration: Fleet | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        trainer: Trainer | None = None,
        start: Mapping[str, Memory] | None = None,
    ) -> None:
        self.fleet, self.calibration = fleet, calibration or fleet
        self.checkpoint, self.resume = checkpoint, resume
        self.trainer: Trainer = trainer or LoopTrainer()
        self.start = start
        lacking = next((node for node in fleet if node not in self.calibration), None)
        if lacking is not None:
            raise DataUnusable(f"node '{lacking}' has training rows but no calibration rows")

    def run(self, plan: Plan, on_round: OnRound = lambda *_: None) -> Outcome:
        """Run prepare, rounds and calibrate; see `vedette.runtimes.base.Runtime`."""
        detector, stages = stages_of(plan)
        self._can_calibrate(detector)
        mark = digest(plan)
        if self.checkpoint is not None and self.resume and self.checkpoint.exists():
            state = load_state(self.checkpoint, mark)
            if set(state.memories) != set(self.fleet):
                raise CheckpointError(f"{self.checkpoint} belongs to a run among other nodes; resume with the data and partition it had")
        else:
            state = State({node: {} if self.start is None else self.start[node] for node in self.fleet})
            state.stage = 0 if self.start is None else [stage.name for stage in stages].index("rounds")
        while state.stage < len(stages):
            stage = stages[state.stage]
            while state.round < stage.strategy.rounds:
                self._round(detector, stage, state, int(plan["seed"]))
                self._keep(state, mark)
                on_round(state.history[-1], state.memories)
            for phase in stage.strategy.closing:
                self._phase(detector, stage, phase, state, int(plan["seed"]), closing=True)
            state.exchanged[stage.name] = state.ours
            state.stage, state.round, state.inbox, state.ours, state.groups = state.stage + 1, 0, {}, {}, {}
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

    def _round(self, detector: Federable, stage: Stage, state: State, seed: int) -> None:
        entry = Round(stage.name, state.round + 1, stage.strategy.rounds, None, 0, 0)
        for phase in stage.strategy.phases:
            loss, sent, received = self._phase(detector, stage, phase, state, seed)
            entry = entry._replace(loss=entry.loss if loss is None else loss, sent=entry.sent + sent, received=entry.received + received)
        state.round += 1
        state.history.append(entry)

    def _phase(
        self, detector: Federable, stage: Stage, phase: str, state: State, seed: int, closing: bool = False
    ) -> tuple[float | None, int, int]:
        """Let every node work and answer, then exchange; return mean loss and bytes from and to the nodes."""
        strategy = stage.strategy
        rng = stream(seed, "stage", stage.name, "round", state.round, "exchange", phase)
        turn = Turn(state.round, phase, self.fleet.nodes, {}, rng)
        view, sent, weighted, rows = Answers(strategy.channels, state.groups), 0, 0.0, 0.0
        jobs = self._jobs(detector, stage, turn, state, seed)
        for node, done, memory in self.trainer.run(detector, jobs, strategy.channels, seed, state.round, phase):
            own = turn._replace(node=node, rng=stream(seed, "stage", stage.name, "round", state.round, phase, "answer", node))
            try:
                message, state.memories[node] = strategy.answer(own, done, memory)
            except DataUnusable as error:
                raise DataUnusable(f"node '{node}': {error}") from None
            if not closing:
                view.add(node, message)
                sent += bytes_of(message)
            if "loss" in done.answers.facts:
                count = float(done.answers.facts["rows"])
                weighted, rows = weighted + count * float(done.answers.facts["loss"]), rows + count
        loss = weighted / rows if rows else None
        if closing:
            return loss, 0, 0
        reply = strategy.exchange(turn, view, state.ours)
        # What a reply leaves out stays as it was.
        state.inbox = state.inbox if reply.messages is None else reply.messages
        state.ours = state.ours if reply.memory is None else reply.memory
        state.groups = state.groups if reply.groups is None else reply.groups
        return loss, sent, 0 if reply.messages is None else sum(bytes_of(_inbox(state, node)) for node in self.fleet)

    def _jobs(self, detector: Federable, stage: Stage, turn: Turn, state: State, seed: int) -> Iterator[Job]:
        fleet = self.calibration if stage.name == "calibrate" else self.fleet
        for node in self.fleet:
            memory, rows = state.memories[node], fleet[node]
            if not len(rows) and stage.name != "calibrate":
                raise DataUnusable(f"node '{node}' has no training rows; check the partition and the labels")
            own = turn._replace(node=node, rng=stream(seed, "stage", stage.name, "round", state.round, turn.phase, "work", node))
            work = stage.strategy.work(own, _inbox(state, node), memory)
            reason = self.trainer.refuses(detector, work)
            if reason:
                raise RecipeError(reason)
            yield Job(node, rows, work, memory)


def _inbox(state: State, node: str) -> Message:
    return state.inbox.get(node, state.inbox.get("*", Message()))

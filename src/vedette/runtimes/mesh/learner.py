"""What one node does of a run, wherever it is told to: work, answer, remember."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vedette.data.table import Table
from vedette.errors import CheckpointError, DataUnusable, RecipeError
from vedette.message import Memory, Message
from vedette.runtimes.base import Plan, digest
from vedette.runtimes.checkpoint import State, load_state, save_state
from vedette.runtimes.mesh.course import Step, course_of
from vedette.runtimes.phase import Phase, run_of
from vedette.runtimes.workers import one_thread
from vedette.strategies.base import Identity
from vedette.training.task import Job, Work

__all__ = ["Learner"]

SENT = "sent"


class Learner:
    """A node: its rows, its memory, and how far it is.

    Parameters
    ----------
    plan
        Of the run.
    node
        Its name.
    train, calibration
        Training rows, and those that set the threshold; the training rows if absent. One-class detectors take the normal ones of both.
    checkpoint
        File to keep the state in; a node that begins again goes on from there.
    objection
        Says what the node's owner has against a work, or None.
    identity
        By which it proves to others what it says, and asks them to; None where nobody has a certificate.

    Attributes
    ----------
    position
        The step that comes next; all before it are done, or passed over.
    answered, answer
        The step last answered, -1 if none was, and what was said.
    loss
        Of the last training.

    Raises
    ------
    CheckpointError
        The file is damaged, or of another run or node.
    RecipeError
        The plan names what there is not.
    """

    def __init__(
        self,
        plan: Plan,
        node: str,
        train: Table,
        calibration: Table | None = None,
        checkpoint: Path | None = None,
        objection: Callable[[Work], str | None] = lambda _: None,
        identity: Identity | None = None,
    ) -> None:
        self.run, self.node, self.checkpoint, self.objection, self.identity = run_of(plan), node, checkpoint, objection, identity
        normal = self.run.detector.learning == "one-class"
        tables = train, train if calibration is None else calibration
        self._train, self._calibration = (table.normal() if normal else table for table in tables)
        self.course, self._mark = course_of(self.run), digest(plan)
        self.position, self.answered, self.answer = 0, -1, Message()
        self.loss: float | None = None
        self.memory: Memory = {}
        if checkpoint is not None and checkpoint.exists():
            state = load_state(checkpoint, self._mark)
            if set(state.memories) != {node}:
                raise CheckpointError(f"{checkpoint} belongs to another node than '{node}': take another file")
            self.memory, self.answer, self.position, self.answered = state.memories[node], state.inbox[SENT], state.round, state.phase

    def take(self, place: int, inbox: Message) -> Step:
        """Do one step: all before it that were not done are passed over.

        Parameters
        ----------
        place
            Its number in the course; not one that was done before.
        inbox
            What the node was sent.

        Raises
        ------
        RecipeError
            The step was done before, or its work is refused by the node's owner or by the trainer.
        DataUnusable, DetectorMisused, TrainingDiverged
            See `vedette.training.task.Trainer.run`.
        """
        if not self.position <= place < len(self.course):
            raise RecipeError(f"node '{self.node}' was asked for step {place} of {len(self.course)}, and is at {self.position}")
        step = self.course[place]
        stage = self.run.stages[step.stage]
        phase = Phase(self.run, stage, step.round, step.phase, (self.node,), step.closing, self.identity)
        rows = self._calibration if stage.name == "calibrate" else self._train
        if not len(rows) and stage.name != "calibrate":
            raise DataUnusable(f"node '{self.node}' has no training rows")
        work = phase.work(self.node, inbox, self.memory)
        if reason := self.objection(work):
            raise RecipeError(f"node '{self.node}' refuses: {reason}")
        run, job = self.run, Job(self.node, rows, work, self.memory)
        with one_thread():
            ((_, done, memory),) = run.trainer.run(run.detector, [job], stage.strategy.channels, run.seed, step.round, step.phase)
        message, self.memory = phase.answer(self.node, done, memory)
        if "loss" in done.answers.facts:
            self.loss = float(done.answers.facts["loss"])
        self.position = place + 1
        if not step.closing:
            self.answered, self.answer = place, message
        if self.checkpoint is not None:
            kept = State({self.node: self.memory}, {SENT: self.answer}, round=self.position, phase=self.answered)
            save_state(self.checkpoint, kept, self._mark)
        return step

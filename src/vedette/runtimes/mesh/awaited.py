"""What a run makes one await on the wire: worked out from the plan and the scaling that all agreed on, not from what somebody says."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vedette.detectors.network import NetworkDetector
from vedette.message import Memory, Message
from vedette.runtimes.mesh.course import Step
from vedette.runtimes.mesh.expected import Bound, Expected, Part
from vedette.runtimes.mesh.wire import Kind
from vedette.runtimes.phase import Run, layouts_of

__all__ = ["awaited_at", "memory_in", "parts_of"]

TEXT = 1 << 20
"""Characters that names of features and levels may take."""

ROWS, COLUMNS = 1 << 20, 1 << 16
"""Of any table."""

FLOATS, INTEGERS = ("float32", "float64"), ("int8", "int32", "int64", "uint8", "uint32", "uint64")

TABLES: Mapping[str, Bound] = {
    "numbers": Bound(ROWS, COLUMNS, FLOATS, open=True),
    "scaling.numbers": Bound(ROWS, COLUMNS, FLOATS, open=True),
    "*": Bound(ROWS, COLUMNS, (*FLOATS, "float16", *INTEGERS)),
}
TEXTS = ("features*", "levels*", "missing*", "scaling.*", "state*", "secure.*", "chain.layout.*")
FACTS: Mapping[str, int] = {**dict.fromkeys(TEXTS, TEXT), "*": 0}
"""Most characters of a text; what is told as a number has 0."""


def memory_in(prepared: Message) -> Memory:
    """Return the scaling that nodes were sent, as it stands in their memories then."""
    return {**prepared.tables, **prepared.facts}


def parts_of(run: Run, memory: Memory) -> dict[str, Part]:
    """Return what travels on each channel of the rounds, by the scaling in a memory; nothing while there is none.

    Where each node makes its scaling by itself, be it from votes, its networks follow from what only it knows: others must take what it
    sends as it comes, and find out in the exchange whether it fits the rest.
    """
    channels = next(stage.strategy.channels for stage in run.stages if stage.name == "rounds")
    if "scaling.about" not in memory and (memory or run.detector.scaling.fit == "local"):
        return {channel.name: Part(None, None) for channel in channels}
    if "scaling.about" not in memory or not isinstance(run.detector, NetworkDetector):
        return {}
    layouts = layouts_of(run.detector, channels, memory)
    return {name: Part(layout.hash, layout.size) for name, layout in layouts.items()}


def awaited_at(
    run: Run, mark: str, step: Step, kind: Kind, senders: Collection[str], parts: Mapping[str, Part], most_bytes: int
) -> Expected:
    """Return what may be said at a step.

    Parameters
    ----------
    run, mark
        The plan, and its digest.
    step
        Where the run stands.
    kind, senders
        What may come, and who may send it.
    parts
        From `parts_of`.
    most_bytes
        Of the whole message.
    """
    stage = run.stages[step.stage].name
    # What is voted on besides the rounds is no network's, and the same for all.
    others = {channel.name: Part(None, None) for channel in run.stages[step.stage].strategy.channels}
    channels = parts if stage == "rounds" else others
    return Expected(
        mark, (step.round,), (kind,), senders, most_bytes, stage, step.phase, channels=channels, tables=TABLES, facts=FACTS
    )  # fmt: skip

"""Checkpoints that were damaged or are of another run: a `CheckpointError`, whatever the bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.errors import CheckpointError
from vedette.files import write_memory
from vedette.message import Message, Vector
from vedette.runtimes.base import Round
from vedette.runtimes.checkpoint import SCHEMA, State, load_state, save_state

STATE = State(
    memories={"a": {"x": np.ones(3), "y": 1.5, "z": "text"}, "b": {}},
    inbox={"*": Message({"model": Vector(np.ones(3, dtype=np.float32), "layout")}, {"t": np.ones(2)}, {"f": 1.0})},
    ours={"*": {"velocity": np.ones(2)}, "a": {}},
    groups={"*": {"a": "g"}},
    exchanged={"prepare": {"*": {"kept": 2.0}, "b": {"kept": "a/b"}}},
    stage=1,
    round=2,
    phase=1,
    closed={"prepare": {"*": Message(facts={"about": "all"}), "a": Message(tables={"t": np.ones(2)})}},
    history=[Round("rounds", 1, 5, 0.5, 1, 2)],
)
with tempfile.TemporaryDirectory() as _folder:
    save_state(Path(_folder) / "state", STATE, "plan")
    STORED = (Path(_folder) / "state").read_bytes()
ABOUT: dict[str, Any] = {
    "schema": SCHEMA, "plan": "plan", "nodes": ["a"], "like": [0], "receivers": [], "exchangers": [], "exchanged": [], "groups": {},
    "closed": [], "stage": 0, "round": 0, "phase": 0, "history": [], "same": {}
}  # fmt: skip


def flat(thing: Any) -> Any:
    """Return a state as plain values that compare."""
    if isinstance(thing, np.ndarray):
        return thing.tolist()
    if isinstance(thing, dict):
        return {key: flat(value) for key, value in thing.items()}
    if isinstance(thing, tuple | list):
        return [flat(part) for part in thing]
    return flat(vars(thing)) if isinstance(thing, State) else thing


def load(data: bytes) -> State:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "state").write_bytes(data)
        return load_state(Path(folder) / "state", "plan")


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.lists(st.integers(0, 8 * len(STORED) - 1), min_size=1, max_size=3))
def test_flipped_bits_are_noticed(bits: list[int]) -> None:
    data = bytearray(STORED)
    for bit in set(bits):
        data[bit // 8] ^= 1 << bit % 8
    try:
        state = load(bytes(data))
    except CheckpointError:
        return
    # Blanks between header and arrays may change; what is read may not.
    assert flat(state) == flat(load(STORED))


@pytest.mark.parametrize("key", sorted(set(ABOUT) - {"schema", "plan"}))
def test_a_state_without_all_its_parts_is_refused(key: str, tmp_path: Path) -> None:
    write_memory(tmp_path / "state", {"node/0/x": 1.0}, ABOUT)
    assert load_state(tmp_path / "state", "plan").memories == {"a": {"x": 1.0}}
    write_memory(tmp_path / "state", {"node/0/x": 1.0}, {name: value for name, value in ABOUT.items() if name != key})
    with pytest.raises(CheckpointError, match="is damaged"):
        load_state(tmp_path / "state", "plan")


@pytest.mark.parametrize(
    "wrong",
    [
        {"history": [[1, 2]]},
        {"history": 5},
        {"nodes": 5},
        {"like": [3]},
        {"like": ["0"]},
        {"like": [0, 0]},
        {"receivers": [["*"]]},
        {"exchanged": [["rounds"]]},
        {"same": [1]},
        {"same": {"node/0/x": "node/9/x"}},
    ],
)
def test_a_state_with_parts_of_another_kind_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    write_memory(tmp_path / "state", {}, {**ABOUT, **wrong})
    with pytest.raises(CheckpointError, match="is damaged"):
        load_state(tmp_path / "state", "plan")


def test_a_vector_without_its_layout_is_refused(tmp_path: Path) -> None:
    write_memory(tmp_path / "state", {"inbox/0/vector/model": np.ones(3, dtype=np.float32)}, {**ABOUT, "receivers": ["*"]})
    with pytest.raises(CheckpointError, match="is damaged"):
        load_state(tmp_path / "state", "plan")


@pytest.mark.parametrize(("wrong", "said"), [({"schema": "vedette.checkpoint/0"}, "this version"), ({"plan": "other"}, "other settings")])
def test_another_version_or_run_is_said(wrong: dict[str, str], said: str, tmp_path: Path) -> None:
    write_memory(tmp_path / "state", {}, {**ABOUT, **wrong})
    with pytest.raises(CheckpointError, match=said):
        load_state(tmp_path / "state", "plan")


def test_what_nodes_share_is_written_once_and_shared_again(tmp_path: Path) -> None:
    """A hundred thousand nodes that scale alike must not write their scaling as often."""
    scaling, about = np.arange(1000.0), "a description of many features" * 20
    memories = {f"n{place}": {"scaling.numbers": scaling, "scaling.about": about, "own": np.full(3, place)} for place in range(50)}
    save_state(tmp_path / "state", State(memories=dict(memories)), "plan")
    assert (tmp_path / "state").stat().st_size < 8000 + len(about) + 50 * 400
    found = load_state(tmp_path / "state", "plan").memories
    assert flat(found) == flat(memories)
    assert found["n3"]["scaling.numbers"] is found["n49"]["scaling.numbers"]
    assert found["n3"]["own"] is not found["n4"]["own"]


def test_nodes_that_hold_the_same_are_written_once_and_stay_apart(tmp_path: Path) -> None:
    shared = np.arange(5.0)
    memories = {f"n{place}": {"x": shared, "y": float(place % 2), "z": "text"} for place in range(1000)}
    save_state(tmp_path / "state", State(memories=dict(memories)), "plan")
    assert (tmp_path / "state").stat().st_size < 1000 * 20
    found = load_state(tmp_path / "state", "plan").memories
    assert flat(found) == flat(memories)
    found["n2"]["x"] = np.zeros(1)  # type: ignore[index]
    assert flat(found["n4"]) == flat(memories["n4"])

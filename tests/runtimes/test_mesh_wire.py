"""The wire: what is sent comes back as it was, and whatever the bytes are, nothing else comes of them than a refusal."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import struct
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.detectors.mlp import Mlp
from vedette.errors import MessageRefused
from vedette.message import Array, Memory, Message, Vector
from vedette.runtimes.base import plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.meetings import Hearing
from vedette.runtimes.mesh.expected import BLOCK, Bound, Expected, Part
from vedette.runtimes.mesh.wire import MOST_HEADER, Header, decode, encode
from vedette.runtimes.phase import Phase
from vedette.strategies.p2pk_smote import P2pkSmote
from vedette.strategies.parameter_server import ParameterServer
from vedette.training.task import Optimiser, Work

PAGE = Path(__file__).parents[2] / "docs" / "wire.md"
HEADER = Header(run="ab12", stage="rounds", round=3, phase="train", kind="answer", node="pump-3")
MESSAGE = Message(
    {"model": Vector(np.array([0.5, -2.0, 0.25], np.float32), "0123456789abcdef"), "norms": Vector(np.ones(2, np.float32), "fedcba98")},
    {"synthetic": np.array([[1.0, 2.0, 1.0], [3.0, 4.0, 0.0]], np.float32), "numbers": np.array([np.inf, 1e300])},
    {"rows": 67.0, "levels": '{"lamp": "grün"}'},
)
EXPECTED = Expected(
    run="ab12",
    stage="rounds",
    rounds=range(2, 4),
    phase="train",
    kinds=("answer", "refusal"),
    senders=("pump-3", "pump-4"),
    most_bytes=10_000,
    channels={"model": Part("0123456789abcdef", 3), "norms": Part("fedcba98", 2)},
    most_norm=10.0,
    tables={"numbers": Bound(2, 1, open=True), "s*": Bound(10, 3)},
    facts={"rows": 0, "l*": 100},
)
DATA = encode(HEADER, MESSAGE)
HEAD = int.from_bytes(DATA[4:8], "little")


def flat(message: Message) -> Any:
    """Return a message as plain values that compare."""
    vectors = {name: (vector.values.dtype.name, vector.values.tolist(), vector.layout) for name, vector in message.vectors.items()}
    tables = {name: (table.dtype.name, table.shape, table.tolist()) for name, table in message.tables.items()}
    return vectors, tables, dict(message.facts)


def sealed(head: bytes, body: bytes, more: int = 0) -> bytes:
    """Return a message with lengths and a checksum that fit, as docs/wire.md describes it."""
    head += b" " * (-len(head) % 8)
    lengths = struct.pack("<4sIQ", b"VDTW", len(head), len(body) + more)
    return lengths + hashlib.sha256(lengths + head + body).digest() + head + body


def tensors(header: Any, data: bytes = b"", blanks: int = 0) -> bytes:
    said = header if isinstance(header, bytes) else json.dumps(header).encode()
    said += b" " * (-len(said) % 8 + blanks)
    return struct.pack("<Q", len(said)) + said + data


def with_head(**changes: Any) -> bytes:
    """Return the message with other things said before the body."""
    return sealed(json.dumps(json.loads(DATA[48 : 48 + HEAD]) | changes).encode(), DATA[48 + HEAD :])


def with_body(body: bytes) -> bytes:
    """Return a message with a single table, in other words of safetensors."""
    said = {"schema": "vedette.wire/1", "header": HEADER.model_dump(), "vectors": {}, "facts": {"rows": 1.0}}
    return sealed(json.dumps(said).encode(), body)


def with_table(**changes: Any) -> bytes:
    told = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **changes}
    return with_body(tensors({"table/synthetic": told}, bytes(24)))


# There and back.

NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def small(bits: int, largest: float) -> st.SearchStrategy[Array]:
    most = float(np.float32(largest))
    values = st.floats(-most, most, width=bits)
    return arrays(np.dtype(f"f{bits // 8}"), st.integers(0, 40), elements=values)


@settings(derandomize=True, max_examples=100)
@given(
    st.dictionaries(NAMES, small(32, 2.0**60), max_size=3),
    st.dictionaries(NAMES, arrays(st.sampled_from([np.float64, np.float32, np.int32]), array_shapes(min_dims=0, max_dims=3)), max_size=3),
    st.dictionaries(NAMES, FLOATS | st.text(st.characters(codec="utf-8"), min_size=1), max_size=4),
)
def test_float32_tables_and_facts_come_back_exactly(
    values: Mapping[str, Array], tables: Mapping[str, Array], facts: Mapping[str, float | str]
) -> None:
    message = Message(
        {name: Vector(array, "layout") for name, array in values.items()}, {n: np.nan_to_num(t) for n, t in tables.items()}, facts
    )
    expected = EXPECTED._replace(
        most_norm=math.inf,
        channels={name: Part("layout", array.size) for name, array in values.items()},
        tables={name: Bound(100, 100, ("float64", "float32", "int32")) for name in tables},
        facts={name: len(fact) if isinstance(fact, str) else 0 for name, fact in facts.items()},
    )
    header, found = decode(encode(HEADER, message), expected)
    assert header == HEADER
    assert flat(found) == flat(message)


@settings(derandomize=True, max_examples=200)
@given(small(32, 65504.0))
def test_float16_stays_within_its_bound(values: Array) -> None:
    found = through(values, "float16").astype(np.float64)
    assert (np.abs(found - values) <= 2.0**-11 * np.abs(values) + 2.0**-25).all()


@settings(derandomize=True, max_examples=200)
@given(small(32, 1e37) | small(32, 1e-42))
def test_int8_stays_within_its_bound(values: Array) -> None:
    found = through(values, "int8").astype(np.float64)
    assert (np.abs(found - values) <= np.abs(values).max(initial=0.0) / 253 + 1e-43).all()


def test_slices_and_turned_tables_are_sent_as_they_look() -> None:
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    message = Message({"model": Vector(grid[:, 1], "x")}, {"s": grid.T, "step": np.array(7, np.float32)})
    expected = EXPECTED._replace(channels={"model": Part("x", 3)}, tables={"s*": Bound(4, 3)}, facts={}, most_norm=20.0)
    assert flat(decode(encode(HEADER, message), expected)[1]) == flat(message)


def test_precision_says_how_many_bytes_travel() -> None:
    values = np.linspace(-1, 1, 10_000, dtype=np.float32)
    sizes = [len(encode(HEADER, Message({"model": Vector(values, "x")}), precision)) for precision in ("float32", "float16", "int8")]
    assert [round(size / 10_000, 1) for size in sizes] == [4.0, 2.0, 1.0]
    # What is in float16 already is not changed by it, and 127 steps each way are what int8 has.
    halves = values.astype(np.float16).astype(np.float32)
    assert np.array_equal(through(halves, "float16"), halves)
    assert len(np.unique(through(values, "int8"))) == 255


def through(values: Array, precision: Any) -> Array:
    expected = EXPECTED._replace(channels={"model": Part("x", values.size)}, facts={}, most_norm=math.inf, most_bytes=2**20)
    _, found = decode(encode(HEADER, Message({"model": Vector(values, "x")}), precision), expected)
    assert found.vectors["model"].values.dtype == np.float32
    return found.vectors["model"].values


def test_the_message_of_these_tests_is_welcome() -> None:
    header, message = decode(DATA, EXPECTED)
    assert header == HEADER
    assert flat(message) == flat(MESSAGE)
    # A name's own bound counts before any glob's.
    decode(DATA, EXPECTED._replace(facts={"*": 0, "levels": 100}))


def test_the_body_is_safetensors_of_its_authors() -> None:
    found = safetensors.numpy.load(DATA[48 + HEAD :])
    assert set(found) == {"vector/model", "vector/norms", "table/synthetic", "table/numbers"}
    assert found["table/numbers"].tolist() == [math.inf, 1e300]


def test_arrays_are_views_and_checking_takes_no_memory_that_grows() -> None:
    values = np.zeros(2**20, np.float32)
    data = encode(HEADER, Message({"model": Vector(values, "x")}, {"synthetic": np.zeros((2**18, 4), np.float32)}))
    expected = EXPECTED._replace(
        most_bytes=2**24, channels={"model": Part("x", values.size)}, tables={"synthetic": Bound(2**18, 4)}, facts={}
    )
    decode(data, expected)
    tracemalloc.start()
    _, message = decode(data, expected)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    received = np.frombuffer(data, np.uint8)
    for array in (message.vectors["model"].values, message.tables["synthetic"]):
        assert np.shares_memory(array, received)
        assert array.flags.aligned
        assert not array.flags.writeable
    assert most < 16 * BLOCK + 50_000


# What is not expected.

OTHER = {
    "most_bytes": (100, r"has [\d,]+ bytes; the most is 100"),
    "run": ("cd34", "belongs to the run 'ab12', not to 'cd34'"),
    "stage": ("calibrate", "awaited are"),
    "rounds": (range(4, 9), "of round 3, which is not awaited"),
    "phase": ("judge", "awaited are"),
    "turn": (2, "awaited are"),
    "kinds": (("inbox",), "of the kind 'answer', and here comes inbox"),
    "senders": (("pump-4",), "sent by 'pump-3', who is not expected"),
    "channels": ({"model": Part("0123456789abcdef", 3)}, "lacks a channel|tell of different|is not expected"),
    "precisions": (("int8",), "sent in float32, not in int8"),
    "most_norm": (2.0, r"channel 'model' has the norm 2\.08; the most is 2"),
    "tables": ({"numbers": Bound(2, 1, open=True)}, "table 'synthetic' is not expected"),
    "facts": ({"rows": 0}, "fact 'levels' is not expected"),
}


@pytest.mark.parametrize("key", sorted(OTHER))
def test_what_differs_from_what_the_receiver_knows_is_refused(key: str) -> None:
    value, reason = OTHER[key]
    with pytest.raises(MessageRefused, match=reason):
        decode(DATA, EXPECTED._replace(**{key: value}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"channels": {**EXPECTED.channels, "model": Part("other", 3)}}, "has the layout '0123456789abcdef', not 'other'"),
        ({"channels": {**EXPECTED.channels, "model": Part("0123456789abcdef", 4)}}, r"has the shape \(3,\), not \(4,\)"),
        ({"channels": {**EXPECTED.channels, "more": Part("x", 1)}}, "lacks a channel"),
        ({"tables": {"*": Bound(10, 10)}}, "table 'numbers' holds values that are not finite"),
        ({"tables": {"*": Bound(1, 10, open=True)}}, "is 2 by 3; the most is 1 by 10|is 2 by 1; the most is 1"),
        ({"tables": {"*": Bound(10, 2, open=True)}}, "is 2 by 3; the most is 10 by 2"),
        ({"tables": {"*": Bound(10, 10, ("float64",), open=True)}}, "holds float32, not float64"),
        ({"facts": {"*": 0}}, "fact 'levels' is no number"),
        ({"facts": {"*": 100}}, "fact 'rows' is no text"),
        ({"facts": {"rows": 0, "levels": 3}}, "has 16 characters; the most is 3"),
        ({"facts": {**EXPECTED.facts, "variance": 0}}, "lacks the fact 'variance'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(MessageRefused, match=reason):
        decode(DATA, EXPECTED._replace(**changes))


def test_a_message_without_vectors_lacks_none() -> None:
    expected = EXPECTED._replace(channels={**EXPECTED.channels, "more": Part("x", 1)}, whole=False)
    assert set(decode(DATA, expected)[1].vectors) == {"model", "norms"}
    assert decode(encode(HEADER, Message(facts={"rows": 1})), EXPECTED)[1].facts == {"rows": 1.0}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("place", [0, BLOCK, BLOCK + 7])
def test_what_is_not_finite_is_refused_at_either_end(value: float, place: int) -> None:
    values = np.zeros(BLOCK + 8, np.float32)
    values[place] = value
    with pytest.raises(MessageRefused, match="not finite, or as good as that"):
        encode(HEADER, Message({"model": Vector(values, "x")}))
    body = safetensors.numpy.save({"vector/model": values})
    expected = EXPECTED._replace(channels={"model": Part("x", len(values))}, facts={}, most_bytes=2**20, most_norm=math.inf, tables={})
    said = {"schema": "vedette.wire/1", "header": HEADER.model_dump(), "vectors": {"model": {"layout": "x", "scale": 1.0}}, "facts": {}}
    with pytest.raises(MessageRefused, match=r"has the norm (nan|inf|3e.38); the most is 1e.38"):
        decode(sealed(json.dumps(said).encode(), body), expected)


@pytest.mark.parametrize(
    ("message", "precision", "reason"),
    [
        (Message({"model": Vector(np.full(3, 7e4, np.float32), "x")}), "float16", "too large for float16: send it in float32"),
        (Message(tables={"t": np.array(["text"])}), "float32", "holds <U4, which does not travel"),
        (Message(facts={"loss": math.nan}), "float32", "a fact cannot be sent"),
        (Message(facts={"name": "\ud800"}), "float32", "a fact cannot be sent"),
        (Message(facts={"levels": "x" * MOST_HEADER}), "float32", "bytes of header"),
    ],
)
def test_what_nobody_would_take_is_not_sent(message: Message, precision: Any, reason: str) -> None:
    with pytest.raises(MessageRefused, match=reason):
        encode(HEADER, message, precision)


# Hostile bytes.


@settings(derandomize=True, max_examples=300)
@given(st.binary(max_size=400) | st.binary(max_size=200).map(lambda rest: DATA[:48] + rest))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MessageRefused):
        decode(data, EXPECTED)


@settings(derandomize=True, max_examples=300)
@given(st.sets(st.integers(0, 8 * len(DATA) - 1), min_size=1, max_size=4))
def test_every_flipped_bit_is_noticed(bits: set[int]) -> None:
    data = bytearray(DATA)
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(MessageRefused):
        decode(bytes(data), EXPECTED)


@settings(derandomize=True, max_examples=100)
@given(st.integers(0, len(DATA) - 1), st.binary(min_size=1, max_size=50))
def test_what_was_cut_or_goes_on_is_refused(end: int, more: bytes) -> None:
    for data in (DATA[:end], DATA + more, DATA[:end] + more + DATA[end:]):
        with pytest.raises(MessageRefused):
            decode(data, EXPECTED)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(2**60, 2**2000) | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def places(thing: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything in nested JSON."""
    yield path
    for key, inner in thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ():
        yield from places(inner, (*path, key))


def replaced(thing: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.copy(thing)
    changed[path[0]] = replaced(thing[path[0]], path[1:], value)
    return changed


BODY = DATA[48 + HEAD :]
TENSORS = 8 + int.from_bytes(BODY[:8], "little")
SAID = json.loads(DATA[48 : 48 + HEAD])
LAID = json.loads(BODY[8:TENSORS])


@settings(derandomize=True, max_examples=500)
@given(st.sampled_from([("said", path) for path in places(SAID)] + [("laid", path) for path in places(LAID)]), JSON)
def test_whatever_a_header_says_only_what_is_expected_gets_through(place: tuple[str, tuple[Any, ...]], value: Any) -> None:
    """Each part of either header becomes any JSON, sealed as if it were right."""
    which, path = place
    said = replaced(SAID, path, value) if which == "said" else SAID
    laid = replaced(LAID, path, value) if which == "laid" else LAID
    data = sealed(json.dumps(said).encode(), tensors(laid, BODY[TENSORS:]))
    try:
        header, message = decode(data, EXPECTED)
    except MessageRefused as refused:
        line = str(refused)
    else:
        line = ""
    if line:
        assert line.isprintable()
        assert len(line) < 300
        return
    assert header.node in EXPECTED.senders
    assert header.round in EXPECTED.rounds
    for name, vector in message.vectors.items():
        assert (vector.layout, len(vector.values)) == EXPECTED.channels[name]
        assert np.isfinite(vector.values).all()
    json.dumps(message.facts, allow_nan=False, ensure_ascii=False).encode()


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no message of Vedette's"),
        (struct.pack("<4sIQ", b"VDTW", 2**32 - 1, 2**64 - 1) + bytes(32), "and says a header of 4,294,967,295"),
        (struct.pack("<4sIQ", b"VDTW", 0, 0) + bytes(32), "its checksum does not fit"),
        (sealed(b" " * (MOST_HEADER + 8), b""), "and says a header of"),
        (sealed(DATA[48 : 48 + HEAD], BODY, more=1), "and says a header of"),
        (sealed(DEEP, b""), "too deep"),
        (sealed(b'{"schema": "vedette.wire/1", "schema": "vedette.wire/1"}', b""), "stands twice"),
        (sealed(b'{"schema": NaN}', b""), "NaN is no finite number"),
        (sealed(b'{"schema": ' + b"9" * 10_000 + b"}", b""), "cannot be read"),
        (sealed(b"\xff\xfe", b""), "cannot be read"),
        (sealed(b"[]", b""), "its schema is not"),
        (with_head(schema="vedette.wire/2"), "its schema is not 'vedette.wire/1'"),
        (with_head(facts={"rows": 10**400}), "'facts.rows.float'"),
        (sealed(DATA[48 : 48 + HEAD].replace(b"67.0", b"1e999"), BODY), "1e999 is no finite number"),
        (with_head(facts={"rows": True}), "'facts.rows.float'"),
        (with_head(facts={"rows": 1.0, "levels": "\ud800"}), "surrogates not allowed"),
        (with_head(facts={f"{place}": [] for place in range(10_001)}), "10,001 names stand side by side"),
        (with_head(facts={f"{place}": [] for place in range(10_000)}), "'facts.0.float'"),
        (with_head(facts=[[]] * 250_000), "'facts': Input should be a valid dictionary"),
        (with_head(header={**HEADER.model_dump(), "round": -1}), "'header.round'"),
        (with_head(header={**HEADER.model_dump(), "round": 3.0}), "'header.round'"),
        (with_head(header={**HEADER.model_dump(), "shell": "rm"}), "'header.shell'"),
        (with_head(vectors={}), "tell of different vectors"),
        (with_head(vectors={**SAID["vectors"], "model": {"layout": "0123456789abcdef", "scale": 2.0}}), "has a scale of 2"),
        (with_head(vectors={**SAID["vectors"], "model": {"layout": "0123456789abcdef", "scale": 1e300}}), "cannot be read"),
        (with_body(b""), "no safetensors"),
        (with_body(struct.pack("<Q", 2**63)), "no safetensors"),
        (with_body(tensors(DEEP)), "too deep"),
        (with_body(tensors(b'{"table/s": 1, "table/s": 2}')), "stands twice"),
        (with_body(tensors({"__metadata__": {"format": "pt"}})), "cannot be read"),
        (with_body(tensors({}, b"left")), "4 bytes of its body belong to no array"),
        (with_body(tensors({"other": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})), "tell of different"),
        (with_table(dtype="BF16"), "dtype 'BF16', which does not travel"),
        (with_table(shape=[2, 4]), "does not lie where"),
        (with_table(shape=[2**40, 2**40]), "does not lie where"),
        (with_table(shape=[-2, -3]), "cannot be read"),
        (with_table(shape=[2] * 70), "cannot be read"),
        (with_table(data_offsets=[0, 2**47]), "does not lie where"),
        (with_table(shape=[2**30], data_offsets=[0, 2**32]), "does not lie where"),
        (with_body(tensors({"table/s": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4), blanks=3)), "does not lie where"),
        (with_table(data_offsets=[4, 28]), "does not lie where"),
        (with_table(data_offsets=[24, 0]), "does not lie where"),
        (with_table(shape=[0, 2**40], data_offsets=[0, 0]), "is 0 by 1,099,511,627,776|bytes of its body"),
        (
            with_body(
                tensors(
                    {
                        "table/s1": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
                        "table/s2": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]},
                    },
                    bytes(24),
                )
            ),
            "'table/s2' does not lie where",
        ),
    ],
)
def test_hostile_headers_are_refused_for_what_they_are_and_take_no_memory(data: bytes, reason: str) -> None:
    tracemalloc.start()
    with pytest.raises(MessageRefused, match=reason):
        decode(data, EXPECTED._replace(most_bytes=2**22))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**26


# Real strategies.


def test_runs_whose_messages_go_over_the_wire_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scaling, training and threshold, to the bit; so trainers take what is read-only, too."""
    fleet = Fleet.of({f"node-{i}": correlated(60 + 20 * i, 4, seed=i, anomalies=0.2) for i in range(3)})
    detector = Mlp(hidden=(4,), batch_norm=True, scaling=Scaling(numbers="standard"), optimiser=Optimiser(rate=0.01, batch=32))
    strategies = ParameterServer(rounds=2, steps=2), P2pkSmote(rounds=2, epochs=1, neighbours=3, share=0.5, merging=1.0)
    plans = [{**plan_of(detector, strategy, 7), "trainer": {"name": "torch"}} for strategy in strategies]
    wanted = [LocalRuntime(fleet).run(plan).memories for plan in plans]
    sent, hear, work = 0, Hearing.hear, Phase.work

    def carried(message: Message) -> Message:
        nonlocal sent
        data = encode(HEADER, message)
        sent += len(data)
        expected = EXPECTED._replace(
            most_bytes=2**20,
            channels={name: Part(vector.layout, vector.values.size) for name, vector in message.vectors.items()},
            tables={"numbers": Bound(100, 100, open=True), "*": Bound(1000, 1000)},
            facts={name: 2**16 if isinstance(fact, str) else 0 for name, fact in message.facts.items()},
            most_norm=1e6,
        )
        return decode(data, expected)[1]

    def heard(self: Hearing, node: str, message: Message) -> None:
        hear(self, node, carried(message))

    def worked(self: Phase, node: str, inbox: Message, memory: Memory) -> Work:
        return work(self, node, carried(inbox), memory)

    monkeypatch.setattr(Hearing, "hear", heard)
    monkeypatch.setattr(Phase, "work", worked)
    found = [LocalRuntime(fleet).run(plan).memories for plan in plans]
    assert sent > 10_000
    for node in fleet:
        for one, other in zip(wanted, found, strict=True):
            assert one[node].keys() == other[node].keys()
            assert all(np.array_equal(value, other[node][name]) for name, value in one[node].items())


# The page.


def shown(data: bytes) -> str:
    """Return bytes as docs/wire.md shows them."""
    lines = []
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:04x}  {row.hex(' '):<47}  {text}".rstrip())
    return "\n".join(lines)


def test_the_page_shows_a_message_as_it_is() -> None:
    message = Message({"model": Vector(np.array([0.5, -1.0, 0.25], np.float32), "0123456789abcdef")}, facts={"rows": 67.0})
    assert shown(encode(HEADER, message)) in PAGE.read_text(encoding="utf-8")

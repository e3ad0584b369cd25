"""The wire: one format for all that travels in a mesh, and what is looked at before any of it is used (docs/wire.md)."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import safetensors.numpy
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from vedette.errors import MessageRefused
from vedette.message import Array, Message, Vector
from vedette.runtimes.mesh.expected import LARGEST, Expected, norm_of
from vedette.settings import Settings

__all__ = ["Header", "Kind", "Precision", "decode", "encode", "read_json"]

Kind: TypeAlias = Literal["plan", "state", "answer", "inbox", "refusal"]
"""The run as JSON (fact ``plan``); where it stands; what a node sends; what it is sent back; why it takes no part (fact ``reason``)."""

Precision: TypeAlias = Literal["float32", "float16", "int8"]

SCHEMA = "vedette.wire/1"
MAGIC = b"VDTW"
LENGTHS = struct.Struct("<4sIQ")
"""The magic word, bytes of the header, bytes of the body."""
BEFORE = LENGTHS.size + hashlib.sha256().digest_size
"""Bytes before the header: lengths and checksum."""
MOST_HEADER = 2**20
"""Bytes that a header may have, this one and safetensors' own: what it says is read before it can be checked."""
MOST_NAMES = 10_000
"""Names of one JSON object: of each that is wrong an account is given."""
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U8": "|u1",
}  # fmt: skip

Count: TypeAlias = Annotated[int, Field(ge=0, lt=2**48)]


class _Said(Settings):
    """What a message says of itself: no number stands for a text, no infinity for a number."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Header(_Said):
    """Who says something, and what it belongs to.

    Parameters
    ----------
    run
        Digest of the plan, or another name that tells runs apart.
    stage, round, phase
        Where the run stands; rounds count from 0.
    turn
        Of several messages of a phase, which: a handshake may need some before the answer, and some after it.
    kind
        What it is.
    node
        Who sends it.
    """

    run: str
    stage: str = ""
    round: Count = 0
    phase: str = ""
    turn: Count = 0
    kind: Kind
    node: str


class _Told(_Said):
    """A vector: what its parameters are, and what they are to be multiplied with."""

    layout: str
    scale: float = Field(gt=0, le=LARGEST)


class _Head(_Said):
    """The JSON between checksum and body."""

    version: Literal["vedette.wire/1"] = Field(alias="schema")
    header: Header
    vectors: dict[str, _Told]
    facts: dict[str, float | str]


class _Tensor(_Said):
    """An array as safetensors' header tells it."""

    dtype: str
    shape: Annotated[list[Count], Field(max_length=8)]
    data_offsets: Annotated[list[Count], Field(min_length=2, max_length=2)]


_TENSORS = TypeAdapter(dict[str, _Tensor])


def encode(header: Header, message: Message, precision: Precision = "float32") -> bytes:
    """Say a message in bytes.

    Parameters
    ----------
    header
        Who sends it, and what it belongs to.
    message
        What is sent; tables stay as they are.
    precision
        How vectors travel. ``"float32"`` is exact. Values v come back within ``2^-11 · |v| + 2^-25`` from ``"float16"``, and within
        ``max|v| / 253 + 1e-43`` from ``"int8"`` (255 steps between ± max|v|).

    Raises
    ------
    MessageRefused
        A vector, or a fact, is not finite, or too large for the precision; a table holds no numbers.
    """
    tensors: dict[str, Array] = {}
    vectors: dict[str, Mapping[str, Any]] = {}
    for name, vector in message.vectors.items():
        values, scale = _packed(name, vector.values, precision)
        tensors[f"vector/{name}"] = values
        vectors[name] = {"layout": vector.layout, "scale": scale}
    for name, table in message.tables.items():
        if table.dtype.str not in DTYPES.values():
            raise MessageRefused(f"table {name!r:.60} holds {table.dtype}, which does not travel")
        tensors[f"table/{name}"] = table
    facts = {name: fact if isinstance(fact, str) else float(fact) for name, fact in message.facts.items()}
    said = {"schema": SCHEMA, "header": header.model_dump(), "vectors": vectors, "facts": facts}
    try:
        head = json.dumps(said, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise MessageRefused(f"a fact cannot be sent: {error}") from None
    head += b" " * (-len(head) % 8)
    if len(head) > MOST_HEADER:
        raise MessageRefused(f"the facts take {len(head):,} bytes of header; the most is {MOST_HEADER:,}")
    # It reads from where an array begins, whatever the strides.
    body = safetensors.numpy.save({name: np.asarray(array, order="C") for name, array in tensors.items()})
    lengths = LENGTHS.pack(MAGIC, len(head), len(body))
    return b"".join([lengths, _checksum(lengths, head, body), head, body])


def decode(data: bytes, expected: Expected) -> tuple[Header, Message]:
    """Check what was received, then return it; arrays are views of `data` (read-only), but for vectors that were not sent in float32.

    Raises
    ------
    MessageRefused
        It is not what was expected, in whatever way. Nothing else is raised, and no more memory taken than a header may ask for.
    """
    try:
        return _decoded(memoryview(data), expected)
    except RecursionError:
        raise MessageRefused("its JSON is too deep") from None
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise MessageRefused(f"it cannot be read: {place!r:.60}: {problem['msg']:.80}") from None
    except ValueError as error:
        raise MessageRefused(f"it cannot be read: {str(error)!r:.100}") from None


def read_json(text: bytes | str) -> Any:
    """Read JSON that somebody else wrote; what can be meant in two ways is none.

    Raises
    ------
    ValueError
        It is no JSON, or there is in it a name twice, too many names, a number that is not finite, half a surrogate pair.
    RecursionError
        It is too deep.
    """
    found = json.loads(text, object_pairs_hook=_once, parse_float=_finite, parse_constant=_finite)
    # Half a surrogate pair can be said in JSON, but is no text that a log or a file would take.
    json.dumps(found, ensure_ascii=False).encode()
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    if len(found) > MOST_NAMES:
        raise ValueError(f"{len(found):,} names stand side by side; the most is {MOST_NAMES:,}")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.20} is no finite number")
    return number


def _decoded(data: memoryview, expected: Expected) -> tuple[Header, Message]:
    if len(data) > expected.most_bytes:
        raise MessageRefused(f"it has {len(data):,} bytes; the most is {expected.most_bytes:,}")
    if len(data) < BEFORE or data[:4] != MAGIC:
        raise MessageRefused("it is no message of Vedette's")
    _, head_size, body_size = LENGTHS.unpack_from(data)
    if head_size > MOST_HEADER or BEFORE + head_size + body_size != len(data):
        raise MessageRefused(f"it has {len(data):,} bytes, and says a header of {head_size:,} and a body of {body_size:,}")
    if _checksum(data[: LENGTHS.size], data[BEFORE:]) != data[LENGTHS.size : BEFORE]:
        raise MessageRefused("its checksum does not fit")
    said, body = read_json(bytes(data[BEFORE : BEFORE + head_size])), data[BEFORE + head_size :]
    if not isinstance(said, dict) or said.get("schema") != SCHEMA:
        raise MessageRefused(f"its schema is not {SCHEMA!r}")
    head = _Head.model_validate(said)
    expected.demand_header(head.header)
    expected.demand_facts(head.facts)
    arrays = dict(_views(body))
    vectors = {name.removeprefix("vector/"): array for name, array in arrays.items() if name.startswith("vector/")}
    tables = {name.removeprefix("table/"): array for name, array in arrays.items() if name.startswith("table/")}
    if len(vectors) + len(tables) < len(arrays) or vectors.keys() != head.vectors.keys():
        raise MessageRefused("its header and its body tell of different vectors")
    if expected.whole and vectors and vectors.keys() != expected.channels.keys():
        raise MessageRefused(f"it lacks a channel: it has {sorted(vectors)!s:.100}")
    for name, told in head.vectors.items():
        expected.demand_vector(name, vectors[name], told.layout, told.scale)
    for name, array in tables.items():
        expected.demand_table(name, array)
    plain = {name: Vector(_unpacked(vectors[name], told.scale), told.layout) for name, told in head.vectors.items()}
    return head.header, Message(plain, tables, head.facts)


def _checksum(*parts: bytes | memoryview) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.digest()


def _views(body: memoryview) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of safetensors' bytes: one after the other they fill the body, and none overlaps another."""
    size = int.from_bytes(body[:8], "little")
    start = 8 + size
    if len(body) < 8 or size > MOST_HEADER or start > len(body):
        raise MessageRefused("its body is no safetensors")
    at = start
    tensors = _TENSORS.validate_python(read_json(bytes(body[8:start])))
    for name, told in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, end = (start + offset for offset in told.data_offsets)
        if told.dtype not in DTYPES:
            raise MessageRefused(f"{name!r:.60} has the dtype {told.dtype!r:.20}, which does not travel")
        dtype = np.dtype(DTYPES[told.dtype])
        if begin != at or end > len(body) or end - begin != math.prod(told.shape) * dtype.itemsize or begin % dtype.itemsize:
            raise MessageRefused(f"{name!r:.60} does not lie where its shape and the arrays before it say")
        yield name, np.ndarray(told.shape, dtype, body, begin)
        at = end
    if at != len(body):
        raise MessageRefused(f"{len(body) - at:,} bytes of its body belong to no array")


def _packed(name: str, values: Array, precision: Precision) -> tuple[Array, float]:
    """Return a vector as it travels, and what to multiply it with."""
    if not norm_of(values) <= LARGEST:
        raise MessageRefused(f"channel '{name}' has parameters that are not finite, or as good as that")
    if precision == "float32":
        return values.astype(np.float32, copy=False), 1.0
    largest = float(np.abs(values).max(initial=0.0))
    if precision == "float16":
        if largest > float(np.finfo(np.float16).max):
            raise MessageRefused(f"channel '{name}' has a parameter of {largest:.3g}, too large for float16: send it in float32")
        return values.astype(np.float16), 1.0
    # Of numbers so small that no float32 is their 127th part nothing is left.
    scale = np.float32(largest / 127) or np.float32(1.0)
    return np.clip(np.rint(values / scale), -127, 127).astype(np.int8), float(scale)


def _unpacked(values: Array, scale: float) -> Array:
    return values if values.dtype == np.float32 else values * np.float32(scale)

"""Compression: what nodes have changed in few bytes, and what was left out sent later."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from vedette.errors import MessageRefused
from vedette.message import Array, Memory, Message, Vector
from vedette.strategies.base import Turn, View
from vedette.strategies.chain.clip import Clip
from vedette.strategies.chain.link import Around, Link
from vedette.strategies.chain.noise import Noise
from vedette.strategies.view import Answers

__all__ = ["Compress"]

log = logging.getLogger(__name__)

REST = "chain.rest."
"""What a node has not sent yet, by channel."""

HERE, LAYOUT = "chain.of.", "chain.layout."
"""Tables and facts of a channel."""

PARTS = ("size", "values", "where", "shapes")

LARGEST = 2**28
"""Parameters that one message may say it stands for."""


class Compress(Link):
    """Send fewer, or coarser, numbers.

    Parameters
    ----------
    values
        What a number travels as: ``"float32"``; ``"float16"``; or ``"int8"``, 255 steps between the largest changes, rounded at random
        so that the mean over many nodes is right (QSGD, Alistarh et al. 2017, section 3.1).
    top
        Share of the numbers that are sent, those changed most (Stich et al. 2018); 1: all.
    rank
        Of what is sent of each matrix, the nearest of that rank (Vogels et al. 2019); 0: the matrix itself. Not together with `top`.
    feedback
        Whether a node remembers what it left out, and adds it to what it sends in the next round (Karimireddy et al. 2019, algorithm 2).
    """

    packs: ClassVar[bool] = True

    values: Literal["float32", "float16", "int8"] = "int8"
    top: float = Field(default=1.0, gt=0, le=1)
    rank: int = Field(default=0, ge=0)
    feedback: bool = True

    @model_validator(mode="after")
    def _one_way(self) -> Compress:
        if self.rank and self.top < 1:
            raise ValueError("either the numbers that changed most ('top') or matrices of low rank ('rank') are sent, not both")
        return self

    def outgoing(self, turn: Turn, message: Message, mine: Memory, around: Around) -> tuple[Message, Memory]:
        tables, facts, rests, rng = dict(message.tables), dict(message.facts), dict[str, Array](), turn.rng()
        for name, vector in sorted(message.vectors.items()):
            whole = vector.values + np.asarray(mine.get(f"{REST}{name}", 0.0), dtype=np.float32)
            sent = self._packed(whole, turn.first()[name].shapes if self.rank else (), rng)
            tables |= {f"{HERE}{name}.{part}": table for part, table in sent.items()}
            facts[f"{LAYOUT}{name}"] = vector.layout
            if self.feedback:
                rests[f"{REST}{name}"] = whole - _unpacked(sent)
        return Message(tables=tables, facts=facts), {**mine, **rests}

    def arrived(self, turn: Turn, view: View, ours: Memory, around: Around) -> View:
        answers = Answers(around.channels, {node: group for group, part in view.groups.items() for node in part.nodes})
        # What nodes have noised themselves is longer than what they have changed, and protected already.
        noised = any(isinstance(link, Noise) and link.added == "node" for link in around.links)
        clip = next((link for link in around.links if isinstance(link, Clip) and not noised), None)
        facts = {name: view.facts(name) for name in view.told("")}
        layouts = {name.removeprefix(LAYOUT): told for name, told in facts.items() if name.startswith(LAYOUT)}
        parts = {name: {part: view.tables(f"{HERE}{name}.{part}") for part in PARTS} for name in layouts}
        # How long it is must be known before it is unpacked, and differs for who does not fit the others.
        shapes = {
            node: tuple((name, told[node], _size(parts[name], node)) for name, told in layouts.items() if node in told)
            for node in view.nodes
        }
        usual = max(Counter(shapes.values()).items(), key=lambda item: item[1])[0] if shapes else ()
        for node in view.nodes:
            try:
                if shapes[node] != usual:
                    raise MessageRefused("compressed parameters are of another length or layout than the others'")
                sent = {name: {part: tables[node] for part, tables in parts[name].items() if node in tables} for name, _, _ in usual}
                vectors = {name: Vector(_unpacked(sent[name]), str(layout)) for name, layout, _ in usual}
            except (MessageRefused, ValueError) as error:
                log.warning("answer refused", extra={"node": node, "reason": str(error)})
                continue
            message = Message(
                vectors, facts={name: told[node] for name, told in facts.items() if node in told and not name.startswith(LAYOUT)}
            )
            # Rounding, and what was left out before, may have made it longer than noise accounts for.
            answers.add(node, message if clip is None else clip.shortened(message, ours)[0])
        for node, reason in answers.refused.items():
            log.warning("answer refused", extra={"node": node, "reason": reason})
        return answers

    def _packed(self, whole: Array, shapes: Sequence[tuple[int, ...]], rng: np.random.Generator) -> dict[str, Array]:
        """Return a vector as it travels: its numbers, what they are to be multiplied with, and where they belong."""
        sent = {"size": np.array([whole.size, 1.0])}
        numbers = whole
        if self.rank:
            numbers, sent["shapes"] = _factors(whole, shapes, self.rank)
        elif self.top < 1:
            most = max(1, math.ceil(self.top * whole.size))
            places = np.sort(np.argpartition(-np.abs(whole), most - 1)[:most])
            numbers = whole[places]
            chosen = np.zeros(whole.size, dtype=np.uint8)
            chosen[places] = 1
            sent["where"] = np.packbits(chosen) if most > whole.size // 32 else places.astype(np.int32)
        if self.values == "int8":
            scale = float(np.abs(numbers).max(initial=0.0)) / 127 or 1.0
            sent["size"][1] = scale
            numbers = np.clip(np.floor(numbers / scale + rng.random(numbers.shape)), -127, 127)
        elif self.values == "float16":
            numbers = np.clip(numbers, -65504, 65504)
        return {**sent, "values": numbers.astype(self.values)}


def _size(parts: Mapping[str, Mapping[str, Array]], node: str) -> float:
    """Return how many parameters a node says there are; -1 if it does not say so."""
    told = parts["size"].get(node)
    return -1.0 if told is None or not told.size else float(told.flat[0])


def _unpacked(sent: Mapping[str, Array]) -> Array:
    """Return the vector that was sent, [parameters] float32.

    Raises
    ------
    MessageRefused
        It does not hold together.
    """
    if not {"size", "values"} <= sent.keys() or sent["size"].shape != (2,) or sent["values"].ndim != 1:
        raise MessageRefused("compressed parameters lack a part, or have one of another shape")
    if not 0 <= sent["size"][0] <= LARGEST:
        raise MessageRefused(f"compressed parameters are said to be {sent['size'][0]:g}; the most is {LARGEST:,}")
    size, numbers = int(sent["size"][0]), sent["values"].astype(np.float32) * np.float32(sent["size"][1])
    if "shapes" in sent:
        return _multiplied(numbers, sent["shapes"], size)
    where = sent.get("where")
    if where is None:
        places = np.arange(size)
    elif where.dtype == np.uint8:
        places = np.flatnonzero(np.unpackbits(where, count=min(size, 8 * where.size)))
    else:
        places = where.astype(np.int64)
    if len(places) != len(numbers) or (len(places) and not (places.min() >= 0 and places.max() < size and (np.diff(places) > 0).all())):
        raise MessageRefused(f"{len(numbers):,} compressed parameters do not fit the {len(places):,} places they are said to have")
    whole = np.zeros(size, dtype=np.float32)
    whole[places] = numbers
    return whole


def _factors(whole: Array, shapes: Sequence[tuple[int, ...]], rank: int) -> tuple[Array, Array]:
    """Return two factors of each matrix and all other numbers as they are, in one vector; and where the matrices are: [n, 4] int32."""
    factors, others, told, at = list[Array](), list[Array](), list[tuple[int, int, int, int]](), 0
    for shape in shapes:
        size, rows = math.prod(shape), shape[0] if shape else 1
        part, columns = whole[at : at + size], size // max(rows, 1)
        kept = min(rank, rows, columns)
        if kept * (rows + columns) < size:
            u, s, v = np.linalg.svd(part.reshape(rows, columns).astype(np.float64), full_matrices=False)
            root = np.sqrt(s[:kept])
            factors += [(u[:, :kept] * root).ravel(), (root[:, None] * v[:kept]).ravel()]
            told.append((at, rows, columns, kept))
        else:
            others.append(part)
        at += size
    numbers = [*factors, *others, np.zeros(0)]
    return np.concatenate(numbers).astype(np.float32), np.array(told, dtype=np.int32).reshape(-1, 4)


def _multiplied(numbers: Array, shapes: Array, size: int) -> Array:
    """Undo `_factors`."""
    whole, other, read = np.zeros(size, dtype=np.float32), np.ones(size, dtype=bool), 0
    for at, rows, columns, rank in shapes.astype(np.int64).reshape(-1, 4).tolist():
        end, stop = at + rows * columns, read + rank * (rows + columns)
        if min(at, rows, columns, rank) < 0 or end > size or stop > len(numbers) or not other[at:end].all():
            raise MessageRefused("compressed matrices do not lie where they are said to")
        u, v = numbers[read : read + rows * rank].reshape(rows, rank), numbers[read + rows * rank : stop].reshape(rank, columns)
        whole[at:end], other[at:end], read = (u @ v).ravel(), False, stop
    if other.sum() != len(numbers) - read:
        raise MessageRefused("compressed parameters are more, or fewer, than there is room for")
    whole[other] = numbers[read:]
    return whole

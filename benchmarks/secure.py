"""Processor seconds of a secure sum, all parties added up: 20 nodes that mask with all, 500 on sparse graphs; 25,000 words of 32 bits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from table import options, told

from vedette.message import Array, Memory, Message
from vedette.strategies.chain.secure import (
    Assumed,
    Fixed,
    advertise,
    introduced,
    masked,
    revealed,
    routed,
    share,
    summed,
    terms_for,
    unmasked,
)
from vedette.strategies.chain.secure.shares import combined, split

WORDS, SEED = 25_000, "benchmark"
CASES = (
    (20, Assumed(), 0.0),
    (20, Assumed(), 0.3),
    (500, Assumed(vanish=0.1, corrupt=0.0), 0.0),
    (500, Assumed(vanish=0.1, corrupt=0.0), 0.1),
    (500, Assumed(vanish=0.1, corrupt=0.01), 0.0),
    (500, Assumed(vanish=0.3, corrupt=0.01, lies=False), 0.0),
    (500, Assumed(vanish=0.3, corrupt=0.01, lies=False), 0.3),
    (500, Assumed(vanish=0.3, corrupt=0.05, lies=False), 0.0),
)
SLOW = (500, Assumed(vanish=0.3, corrupt=0.05))
"""Of this one only the sharing is measured, on a few secrets, and scaled up."""


def one_round(values: Array, assumed: Assumed, vanish: float) -> dict[str, float]:
    """Return the seconds of each step of a round in which some vanish before they send their words."""
    spent: dict[str, float] = {}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        begin = time.process_time()
        found = work()
        spent[step] = spent.get(step, 0.0) + time.process_time() - begin
        return found

    names = [f"node-{i:03d}" for i in range(len(values))]
    fixed = Fixed({"model": 1.0}, len(names))
    mine: dict[str, Memory] = {}

    def each(
        step: str, table: str, inboxes: dict[str, Message], work: Callable[[str, Message], tuple[Message, Memory]]
    ) -> dict[str, Array]:
        sent = {}
        for name, inbox in inboxes.items():
            message, mine[name] = timed(step, lambda name=name, inbox=inbox: work(name, inbox))
            sent[name] = message.tables[f"secure.{table}"]
        return sent

    terms_for.cache_clear()
    keys = each("keys", "keys", dict.fromkeys(names, Message()), lambda name, _: advertise(name, {}))
    roll, ours = timed("exchange", lambda: introduced(keys, {}, SEED, assumed))
    shares = each("shares", "shares", dict.fromkeys(names, roll), lambda name, inbox: share(inbox, mine[name], SEED, assumed))
    parcels, ours = timed("exchange", lambda: routed(shares, ours))
    encoded = {name: timed("fixed point", lambda row=row: fixed.words({"model": row})) for name, row in zip(names, values, strict=True)}
    left = {name: parcels[name] for name in names[int(vanish * len(names)) :]}
    words = each("mask", "words", left, lambda name, inbox: masked(inbox, mine[name], encoded[name]))
    heard, ours = timed("exchange", lambda: summed(words, ours, WORDS + 1, 32))
    parts = each("reveal", "revealed", dict.fromkeys(words, heard), lambda name, inbox: revealed(inbox, mine[name]))
    total, _ = timed("unmask", lambda: unmasked(parts, ours))
    if not np.array_equal(total, np.sum([encoded[name] for name in words], axis=0, dtype=np.uint32)):
        raise SystemExit("the secure sum is not the plain one")
    return spent


def sharing(threshold: int, degree: int) -> tuple[float, float]:
    """Return the seconds to split a secret, and to put it together."""
    begin = time.process_time()
    parts = [part.tobytes() for part in split(bytes(16), threshold, degree)]
    between = time.process_time()
    combined(range(1, threshold + 1), parts[:threshold])
    return between - begin, time.process_time() - between


def main() -> None:
    parser = options(__doc__ or "")
    parser.set_defaults(repeats=3)
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for nodes, assumed, vanish in CASES:
        values = np.random.default_rng(0).uniform(-1, 1, (nodes, WORDS)).astype(np.float32)
        spent = min((one_round(values, assumed, vanish) for _ in range(chosen.repeats)), key=lambda steps: sum(steps.values()))
        begin = time.process_time()
        values.sum(axis=0)
        plain = time.process_time() - begin
        rows.append(_row(nodes, assumed, f"{vanish:.0%}", sum(spent.values()), spent, plain))
    nodes, assumed = SLOW
    splits, combines = sharing(*reversed(terms_for(nodes, assumed)))
    spent = {"shares": 2 * nodes * splits, "unmask": nodes * combines}
    rows.append(_row(nodes, assumed, "scaled up", sum(spent.values()), spent, rows[-1]["plain sum"]))
    told("secure", rows, chosen.json)


def _row(nodes: int, assumed: Assumed, vanished: str, seconds: float, spent: dict[str, float], plain: float) -> dict[str, Any]:
    degree, threshold = terms_for(nodes, assumed)
    steps = {step: spent.get(step, 0.0) for step in ("keys", "shares", "fixed point", "mask", "reveal", "exchange", "unmask")}
    about = {"vanish": assumed.vanish, "corrupt": assumed.corrupt, "lies": str(assumed.lies), "k": degree, "t": threshold}
    return {"nodes": str(nodes), **about, "vanished": vanished, "seconds": seconds, **steps, "plain sum": plain}


if __name__ == "__main__":
    main()

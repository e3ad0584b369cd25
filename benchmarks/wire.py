"""MB/s of messages encoded and decoded with all checks, 100 kB and 10 MB of parameters, against safetensors saving and loading alone."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import safetensors.numpy
from table import measured, options, told

from vedette.message import Message, Vector
from vedette.runtimes.mesh.expected import Expected, Part
from vedette.runtimes.mesh.wire import Header, Precision, decode, encode

HEADER = Header(run="ab12", stage="rounds", round=3, phase="train", kind="answer", node="pump-3")
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")


def main() -> None:
    chosen = options(__doc__ or "").parse_args()
    rows: list[dict[str, Any]] = []
    for count in (25_000, 2_500_000):
        values = np.random.default_rng(0).standard_normal(count, dtype=np.float32)
        message = Message({"model": Vector(values, "0123456789abcdef")}, facts={"rows": 67.0})
        expected = Expected(
            run="ab12",
            stage="rounds",
            rounds=(3,),
            phase="train",
            kinds=("answer",),
            senders=("pump-3",),
            most_bytes=2**24,
            channels={"model": Part("0123456789abcdef", count)},
            most_norm=1e6,
            facts={"rows": 0},
        )
        megabytes, times = values.nbytes / 1e6, 10_000_000 // count
        saved = safetensors.numpy.save({"vector/model": values})
        plain = sum(
            _seconds(work, times, chosen.repeats)
            for work in (lambda v=values: safetensors.numpy.save({"vector/model": v}), lambda s=saved: safetensors.numpy.load(s))
        )
        hashed = _seconds(lambda s=saved: hashlib.sha256(s).digest(), times, chosen.repeats)
        for precision in PRECISIONS:
            data = encode(HEADER, message, precision)
            there = _seconds(lambda m=message, p=precision: encode(HEADER, m, p), times, chosen.repeats)
            back = _seconds(lambda d=data, e=expected: decode(d, e), times, chosen.repeats)
            rows.append(
                {
                    "parameters": f"{megabytes:g} MB, {precision}",
                    "bytes": len(data),
                    "encoded, MB/s": megabytes / there,
                    "decoded, MB/s": megabytes / back,
                    "both, ms": 1e3 * (there + back),
                    "SHA-256 once, ms": 1e3 * hashed * len(data) / len(saved),
                    "safetensors alone, ms": 1e3 * plain,
                    "ratio": (there + back) / plain,
                }
            )
    told("wire", rows, chosen.json)


def _seconds(work: Any, times: int, repeats: int) -> float:
    """Return the seconds of one of many calls."""
    return measured(lambda: [work() for _ in range(times)], repeats)[0] / times


if __name__ == "__main__":
    main()

"""A training process of its own: a lesson comes in, a trained network goes out, and little but NumPy is in it.

It reads JSON on standard input and arrays from a folder, and inherits the open file of the rows; it answers on standard output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vedette.errors import StorageError
from vedette.message import Array
from vedette.training.dense import Dense
from vedette.training.lowmem.descent import Schedule
from vedette.training.lowmem.lesson import Lesson, Rate, Taught, teach
from vedette.training.lowmem.rows import Affine, ScaledRows
from vedette.training.lowmem.update import Rule

__all__ = ["FileRows", "peak_resident", "taught_apart"]


class FileRows(NamedTuple):
    """Rows of numbers in an open file, row by row: read, not mapped, so that none stays in memory.

    Attributes
    ----------
    handle, name
        The file, and what it is called in messages.
    offset, columns, kind
        Where the first row begins, numbers of a row, and their NumPy type.
    rows
        [n] int, numbers of the rows in the file; or the first of those that follow each other.
    chosen
        [width] int, the columns that are wanted, or None for all.
    """

    handle: int
    name: str
    offset: int
    columns: int
    kind: str
    rows: Array | int
    chosen: Array | None

    def read(self, at: Array, into: Array) -> None:
        """Read rows by their numbers among those chosen.

        Raises
        ------
        StorageError
            The file was cut off.
        """
        size = into.shape[1] * into.dtype.itemsize
        for place, row in enumerate((self.rows + at if isinstance(self.rows, int) else self.rows[at]).tolist()):
            if os.preadv(self.handle, [into[place].data.cast("B")], self.offset + row * size) < size:
                raise StorageError(f"{self.name}: the file was cut off while it was in use; load the data set anew")

    def scaled(self, scaling: Affine, label: Array) -> ScaledRows:
        """Return them as training rows."""
        return ScaledRows(self.read, np.dtype(self.kind).type, self.columns, self.chosen, scaling, label)


def peak_resident() -> int:
    """Return the most bytes that this process ever held (VmHWM); 0 where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as stream:  # noqa: PTH123 - pathlib is not needed here, and costs memory
            return next(int(line.split()[1]) * 1024 for line in stream if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 0


def taught_apart(lesson: Lesson, rows: FileRows, scaling: Affine, label: Array) -> tuple[Taught, int, float]:
    """Carry a lesson out in a process of its own.

    Returns
    -------
    tuple
        What came of it, the most bytes that the process held, and the seconds it trained.

    Raises
    ------
    StorageError
        The file was cut off, or the process was ended from outside.
    """
    given: dict[str, Any] = {"vector": lesson.vector, "label": label, "rows": rows.rows, "chosen": rows.chosen, "anchor": lesson.anchor}
    given |= {"shift": scaling.shift, "scale": scaling.scale, "middle": scaling.middle}
    given |= {f"state.{name}": kept for name, kept in lesson.state.items()}
    arrays = {name: array for name, array in given.items() if isinstance(array, np.ndarray)}
    told = {**lesson._asdict(), "vector": None, "anchor": None, "state": {"steps": lesson.state["steps"]} if lesson.state else {}}
    file = rows._replace(rows=rows.rows if isinstance(rows.rows, int) else -1, chosen=None)
    with tempfile.TemporaryDirectory(prefix="vedette-") as folder:
        for name, array in arrays.items():
            np.save(Path(folder) / f"{name}.npy", array, allow_pickle=False)
        said = json.dumps({"folder": folder, "lesson": told, "file": file._asdict(), "limit": scaling.limit, "log": scaling.log})
        done = subprocess.run(
            [sys.executable, "-m", "vedette.training.lowmem.process"],
            input=said.encode(),
            capture_output=True,
            pass_fds=[rows.handle],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        if done.returncode < 0:
            raise StorageError(f"the training process was ended by signal {-done.returncode}: is there too little memory for it?")
        try:
            found = json.loads(done.stdout)
        except ValueError:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
            raise StorageError(f"the training process ended with status {done.returncode}: {last[0][:200]}") from None
        if "error" in found:
            raise StorageError(found["error"])
        result = {path.stem: np.load(path, allow_pickle=False) for path in Path(folder).glob("out.*.npy")}
    state: Mapping[str, Any] = {name.removeprefix("out.state."): kept for name, kept in result.items() if name.startswith("out.state.")}
    taught = Taught(
        result["out.vector"], float(found["fit"]), found["weight"], {**state, "steps": found["steps"]}, found["overflows"], found["bytes"]
    )
    return taught, int(found["resident"]), float(found["seconds"])


def main() -> None:
    """Carry out the lesson on standard input."""
    said = json.loads(sys.stdin.read())
    folder, told, file = said["folder"], said["lesson"], said["file"]

    def held(name: str) -> Array | None:
        path = f"{folder}/{name}.npy"
        return np.load(path, allow_pickle=False) if os.path.exists(path) else None  # noqa: PTH110 - see peak_resident

    state: dict[str, Any] = {name: held(f"state.{name}") for name in ("momentum", "first", "second")}
    state = {name: kept for name, kept in state.items() if kept is not None} | told["state"]
    lesson = Lesson(
        **{
            **told,
            "dense": [Dense(*layer) for layer in told["dense"]],
            "vector": held("vector"),
            "rule": Rule(*told["rule"]),
            "rate": Rate(*told["rate"]),
            "schedule": Schedule(*told["schedule"]),
            "state": state,
            "anchor": held("anchor"),
        }
    )
    shift, scale, middle, label, numbers = (held(name) for name in ("shift", "scale", "middle", "label", "rows"))
    assert shift is not None
    assert scale is not None
    assert middle is not None
    assert label is not None
    rows = FileRows(**{**file, "rows": file["rows"] if numbers is None else numbers, "chosen": held("chosen")})
    begin = time.perf_counter()
    try:
        (taught,) = teach([lesson], [rows.scaled(Affine(shift, scale, middle, said["limit"], said["log"]), label)])
    except StorageError as error:
        sys.stdout.write(json.dumps({"error": str(error)}))
        return
    seconds = time.perf_counter() - begin
    np.save(f"{folder}/out.vector.npy", taught.vector)
    for name, kept in taught.state.items():
        if isinstance(kept, np.ndarray):
            np.save(f"{folder}/out.state.{name}.npy", kept)
    answer = {"fit": taught.fit, "weight": taught.weight, "steps": taught.state["steps"], "overflows": taught.overflows}
    sys.stdout.write(json.dumps({**answer, "bytes": taught.bytes, "resident": peak_resident(), "seconds": seconds}))


if __name__ == "__main__":
    main()

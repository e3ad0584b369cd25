"""Worker processes: the jobs of a phase spread over cores, with results as if one process had done them all."""

from __future__ import annotations

import ctypes
import gc
import io
import os
import pickle
import signal
import sys
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from multiprocessing import resource_tracker
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from vedette.detectors.base import DETECTORS
from vedette.detectors.oneshot import Federable
from vedette.errors import MissingExtra, RecipeError, StorageError, VedetteError
from vedette.message import Channel, Memory
from vedette.settings import build, describe
from vedette.training.task import Done, Job, Trainer
from vedette.training.trainers import TRAINERS

__all__ = ["Workers", "one_thread"]

Carried: TypeAlias = tuple[str, Done, Memory]

AHEAD = 8
"""Jobs each worker may have waiting, so that none stands idle while a large node in front of it is trained; two units at least."""

SHARES = 4
"""Units a worker gets, at least, of those that could be larger: the last ones to be done should be small."""

IDLE = 60.0
"""Seconds after which a worker without work goes away: longer than the tables between two methods take to score, as a rule."""

TRIES = 3
"""How often the jobs that were under way when a worker died are tried by themselves."""

SURROUNDINGS = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # Memory that a step gives back and the next one needs again stays: a quarter of an LSTM's time went into fetching it anew (glibc).
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
"""Of a worker, set before it begins."""

PR_SET_PDEATHSIG = 1


class Workers:
    """Carries out the jobs of a phase here or in worker processes, with one thread each: the results are the same to the last bit.

    Jobs go out in units of consecutive ones, a bounded number of them ahead, and results come back in order. A unit holds what must stay
    together (`Trainer.unit`), and as much more as is the faster for it (`Trainer.most`), but no more than leaves every worker its share.

    Parameters
    ----------
    count
        Worker processes; 1 trains in this process, 0 takes as many as there are cores.

    Raises
    ------
    RecipeError
        A negative number.
    MissingExtra
        loky is not installed.
    """

    def __init__(self, count: int = 1) -> None:
        if count < 0:
            raise RecipeError(f"workers must be 0 (one for each core) or more (got {count})")
        self.count = count if count == 1 else (count or int(_loky().cpu_count()))

    def run(
        self,
        trainer: Trainer,
        detector: Federable,
        jobs: Iterable[Job],
        nodes: int,
        channels: Sequence[Channel],
        seed: int,
        round: int,
        phase: str,
    ) -> Generator[Carried, None, None]:
        """Do the work of many nodes; close it if it is not run to its end, for workers to stop.

        Parameters
        ----------
        trainer, detector, jobs, channels, seed, round, phase
            See `vedette.training.task.Trainer.run`.
        nodes
            How many jobs there are.

        Yields
        ------
        tuple
            Node, what came of it, and the node's new memory, in the order of the jobs.

        Raises
        ------
        VedetteError
            What the trainer raises, in the order of the jobs; or workers that die again and again over the same jobs.
        """
        size = trainer.unit * max(1, min(trainer.most // trainer.unit, nodes // (trainer.unit * self.count * SHARES)))
        if self.count == 1 or nodes <= size:
            with one_thread():
                yield from trainer.run(detector, jobs, channels, seed, round, phase)
            return
        told = _Told(describe(DETECTORS, detector), describe(TRAINERS, trainer), tuple(channels), seed, round, phase)
        with one_thread():
            yield from _spread(told, _units(jobs, size), self.count, self.count * max(2, AHEAD // size))


class _Told(NamedTuple):
    """What a worker is told beside the jobs."""

    detector: Mapping[str, Any]
    trainer: Mapping[str, Any]
    channels: tuple[Channel, ...]
    seed: int
    round: int
    phase: str


@dataclass
class _Unit:
    """Consecutive jobs that one worker does.

    Attributes
    ----------
    nodes
        Whose they are.
    jobs
        Pickled.
    future
        Their results, once a worker has been asked for them.
    alone
        Whether nothing else may be under way: a worker died when they were, and so it will be known whether they are why.
    deaths
        How often one died over them alone.
    """

    nodes: tuple[str, ...]
    jobs: bytes
    future: Future[list[Carried]] | None = None
    alone: bool = False
    deaths: int = 0

    @property
    def kept(self) -> bool:
        """Whether the results are there, and stay there whatever becomes of the workers."""
        return self.future is not None and self.future.done() and self.future.exception() is None


def _units(jobs: Iterable[Job], size: int) -> Iterator[_Unit]:
    each = iter(jobs)
    while several := list(islice(each, size)):
        yield _Unit(tuple(job.node for job in several), _pickled(several))


def _spread(told: _Told, units: Iterator[_Unit], workers: int, most: int) -> Iterator[Carried]:
    """Have units done, no more than `most` of them ahead of the first whose results are not there yet."""
    waiting, pool = deque[_Unit](), _pool(workers)
    more, refused = True, None
    try:
        while True:
            while more and len(waiting) < most:
                try:
                    waiting.append(next(units))
                except StopIteration:
                    more = False
                except Exception as error:
                    # The nodes before this one have their say first, as if nobody had looked ahead.
                    more, refused = False, error
            if not waiting:
                break
            try:
                _submit(pool, told, waiting)
                future = waiting[0].future
                assert future is not None
                done = future.result()
            except BrokenProcessPool:
                _begin_anew(waiting)
                pool = _pool(workers)
                continue
            waiting.popleft()
            yield from done
    finally:
        if any(unit.future is not None and not unit.future.done() for unit in waiting):
            pool.shutdown(wait=True, kill_workers=True)
    if refused is not None:
        raise refused


def _submit(pool: Any, told: _Told, waiting: deque[_Unit]) -> None:
    for place, unit in enumerate(waiting):
        if unit.future is None:
            if unit.alone and place:
                return
            try:
                with _deaf():
                    unit.future = pool.submit(_carry_out, told, unit.jobs)
            except OSError as error:
                raise StorageError(f"no worker process can be started ({error}); take fewer workers, or one") from None
        if unit.alone:
            return


def _begin_anew(waiting: deque[_Unit]) -> None:
    """Take back what was under way when a worker died; from now on each of it goes by itself.

    Raises
    ------
    VedetteError
        Its first unit was by itself already, and it was not the first time.
    """
    first = waiting[0]
    if first.alone:
        first.deaths += 1
        if first.deaths == TRIES:
            who = f"node '{first.nodes[0]}'" if len(first.nodes) == 1 else f"nodes '{first.nodes[0]}' to '{first.nodes[-1]}'"
            raise VedetteError(
                f"{who}: the worker process was killed or crashed, {TRIES} times with nothing beside it; "
                "there may be too little memory: look at the system's log, or train in one process (workers = 1)"
            )
    for unit in waiting:
        if not unit.kept:
            unit.future, unit.alone = None, True


def _loky() -> Any:
    try:
        import loky
    except ImportError:
        raise MissingExtra("worker processes need loky: pip install 'vedette[train]'") from None
    return loky


def _pool(workers: int) -> Any:
    """Return the pool of this thread, with so many workers; they start when there is something to do."""
    # They go away when they are idle or have grown by much, and others come in their place: nothing anybody can do about.
    warnings.filterwarnings("ignore", r"A worker (stopped|was restarted) while some jobs were given", UserWarning)
    # What keeps account of semaphores would, when it begins, lift the ban on Ctrl-C that `_deaf` lays on workers.
    resource_tracker.ensure_running()
    return _loky().get_reusable_executor(workers, timeout=IDLE, initializer=_obey, initargs=(os.getpid(),), env=SURROUNDINGS)


@contextmanager
def _deaf() -> Iterator[None]:
    """Let threads and processes that begin here never hear of Ctrl-C: it is this process that ends them then."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _obey(parent: int) -> None:
    """End with the process that began this one, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


class _Pickler(pickle.Pickler):
    """Keeps the order in which an array's axes lie in memory, which sums depend on in their last bits."""

    def reducer_override(self, thing: Any) -> Any:
        if type(thing) is np.ndarray and not (thing.flags.c_contiguous or thing.flags.f_contiguous):
            return thing.copy(order="K").__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        return NotImplemented


def _pickled(jobs: Sequence[Job]) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(jobs)
    return stream.getvalue()


def _carry_out(told: _Told, jobs: bytes) -> list[Carried]:
    """Do a unit's jobs, in a worker."""
    detector, trainer = build(DETECTORS, told.detector, "plan, detector"), build(TRAINERS, told.trainer, "plan, trainer")
    assert isinstance(detector, Federable)
    # It comes from this process's parent, through a pipe of theirs.
    several: list[Job] = pickle.loads(jobs)  # noqa: S301
    done = list(trainer.run(detector, several, told.channels, told.seed, told.round, told.phase))
    _settle()
    return done


@cache
def _settle() -> None:
    """Spare what was loaded for the first jobs the search for garbage, which loky has made every second: a tenth of one with torch."""
    gc.collect()
    gc.freeze()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy multiply with one thread, as in a worker: with more, sums differ in their last bits. (Torch has one thread anywhere.)

    Libraries that are loaded within are not held to it, and without threadpoolctl, which comes with scikit-learn, none is.
    """
    controller = _controller("scipy" in sys.modules, "sklearn" in sys.modules)
    if controller is None:
        yield
        return
    with controller.limit(limits=1, user_api="blas"):
        yield


@cache
def _controller(*loaded: bool) -> Any:
    """Return what knows the libraries of this process that multiply, looked for anew when others may have been loaded."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()

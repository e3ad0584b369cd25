"""Federations in tests: parties as threads of this process with a session each, or as processes with mutual TLS, here or in namespaces."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import environment
from network import Network

from vedette.data.fleet import Fleet
from vedette.data.table import Table
from vedette.detectors.bundle import load_bundle
from vedette.evaluation.recipe import load_recipe
from vedette.evaluation.setting import rows_of
from vedette.message import Memory, Message
from vedette.runtimes.base import Plan, plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.mesh import keys
from vedette.runtimes.mesh.coordinator import Coordinator
from vedette.runtimes.mesh.course import Step
from vedette.runtimes.mesh.lead import Lead
from vedette.runtimes.mesh.learner import Learner
from vedette.runtimes.mesh.node import Node
from vedette.runtimes.mesh.session import MeshSettings, open_session
from vedette.strategies.base import Identity

__all__ = ["NAMES", "Led", "Site", "Threads", "Vanished", "alike", "heard", "port", "session_of", "site_of", "undisturbed", "until"]

NAMES = ("pump-1", "pump-2", "pump-3")


def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def alike(here: Memory, there: Memory) -> None:
    assert here.keys() == there.keys()
    for name, value in here.items():
        np.testing.assert_array_equal(value, there[name], err_msg=name)


def until(reached: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := reached()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return found


class Threads:
    """Runs parties of a federation side by side in this process."""

    def __init__(self) -> None:
        self.failed: list[BaseException] = []
        self.all: list[threading.Thread] = []

    def begin(self, work: Callable[..., None], *about: Any) -> None:
        def guarded() -> None:
            try:
                work(*about)
            except BaseException as error:
                self.failed.append(error)

        self.all.append(threading.Thread(target=guarded, daemon=True))
        self.all[-1].start()

    def end(self) -> None:
        for thread in self.all:
            until(lambda thread=thread: self.failed or not thread.is_alive(), "somebody never came to an end")
        if self.failed:
            raise self.failed[0]


def session_of(name: str, at: int, first: bool = False, coordinator: str = "") -> Any:
    where: dict[str, Any] = {"listen": (f"127.0.0.1:{at}",)} if first else {"connect": (f"127.0.0.1:{at}",)}
    if coordinator:
        where["listen"] = ()
    return open_session(MeshSettings(insecure=True, name=name, coordinator=coordinator, **where))[0]


def heard(lead: Lead, learners: Mapping[str, Learner], *who: str) -> None:
    """Let nodes do what they are asked for, up to their next answer."""
    for name in who:
        learner = learners[name]
        while (task := lead.next_for(name, learner.position)) is not None:
            if not learner.take(*task).closing:
                assert lead.hear(name, task.place, learner.answer) is None
                break


class Vanished(Exception):
    """A node's link ends without a word."""


class Watched(Learner):
    """A learner that something happens to before a step, or after it."""

    before: Callable[[Step], None] = staticmethod(lambda _: None)
    after: Callable[[Step], None] = staticmethod(lambda _: None)

    def take(self, place: int, inbox: Message) -> Step:
        self.before(self.course[place])
        step = super().take(place, inbox)
        self.after(step)
        return step


class Led(Threads):
    """A federation with a coordinator: threads, each with a session of its own.

    Attributes
    ----------
    learners
        By node, from when it has the plan.
    asked
        Who was asked at each step.
    nodes
        Each node's side of the run, from when it was last begun.
    identities
        By which nodes prove what they say, where they do.
    """

    def __init__(self, plan: Plan, lead: Lead, **about: Any) -> None:
        super().__init__()
        self.plan, self.lead, self.at = plan, lead, port()
        self.learners, self.asked = dict[str, Watched](), dict[int, set[str]]()
        self.nodes, self.identities = dict[str, Node](), dict[str, Identity]()
        self.begin(self._coordinate, about)

    def _coordinate(self, about: dict[str, Any]) -> None:
        session = session_of("coordinator", self.at, first=True)
        try:
            Coordinator(self.plan, self.lead, session, "coordinator", "fleet", **about).serve(self._note)
        finally:
            session.close()

    def _note(self, _: Coordinator) -> None:
        self.asked.setdefault(self.lead.place, set()).update(self.lead.asked)

    def node(
        self, name: str, rows: Table, before: Callable[[Step], None] | None = None, after: Callable[[Step], None] | None = None
    ) -> None:
        """Begin a node, or begin it again where it was."""
        self.begin(self._learn, name, rows, before, after)

    def _learn(self, name: str, rows: Table, before: Callable[[Step], None] | None, after: Callable[[Step], None] | None) -> None:
        session = session_of(name, self.at, coordinator="coordinator")
        try:
            node = self.nodes[name] = Node(session, name, "coordinator", "fleet")
            plan = node.plan()
            learner = self.learners.setdefault(name, Watched(plan, name, rows, identity=self.identities.get(name)))
            learner.before, learner.after = before or Watched.before, after or Watched.after
            node.carry_out(learner, plan)
        except Vanished:
            pass
        finally:
            session.close()


class Site:
    """Devices of one fleet, a process each: on loopback, or each in a namespace of its own."""

    def __init__(self, folder: Path, names: Sequence[str] = NAMES, network: Network | None = None) -> None:
        self.folder, self.names, self.network = folder, tuple(names), network
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.address = f"127.0.0.1:{port()}" if network is None else network.address(next(iter(network.devices)))
        keys.init(folder / "ca")
        keys.add(folder / "ca", ["coordinator", *names])

    def keys(self, who: str) -> Path:
        return self.folder / "ca" / "devices" / who

    def begin(self, who: str, command: str, *more: str) -> None:
        """Begin a process, or begin it again in the same folder."""
        whole = [sys.executable, "-m", "vedette", command, "demo", "--keys", str(self.keys(who)), "--out", str(self.folder / who)]
        within = [] if self.network is None else self.network.within(who)
        with (self.folder / f"{who}.log").open("a") as log:
            self.running[who] = subprocess.Popen(
                [*within, *whole, *size_of(self.names), *more], stdout=log, stderr=subprocess.STDOUT, env=environment(), text=True
            )

    def coordinator(self, *more: str) -> None:
        self.begin("coordinator", "coordinator", "--listen", self.address, "--nodes", str(len(self.names)), "--linger", "5", *more)

    def node(self, who: str, *more: str) -> None:
        self.begin(who, "node", "--connect", self.address, *more)

    def peer(self, who: str, *more: str) -> None:
        first = who == self.names[0]
        listen = self.address if first else "127.0.0.1:0" if self.network is None else self.network.address(who)
        seed = () if first else ("--connect", self.address)
        self.begin(who, "peer", "--peers", ",".join(self.names), "--listen", listen, *seed, *more)

    def lead(self, *more: str) -> None:
        self.coordinator(*more)
        for name in self.names:
            self.node(name)

    def log(self, who: str) -> str:
        return (self.folder / f"{who}.log").read_text()

    def reaches(self, who: str, what: str, times: int = 1) -> None:
        until(lambda: len(re.findall(what, self.log(who))) >= times, f"{who} never said '{what}' {times} times: {self.log(who)[-1500:]}")

    def signal(self, who: str, sign: signal.Signals) -> None:
        self.running[who].send_signal(sign)

    def kill(self, who: str) -> None:
        self.signal(who, signal.SIGKILL)
        self.running[who].wait()

    def end(self) -> None:
        for who, process in self.running.items():
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                pytest.fail(f"{who} never came to an end: {self.log(who)[-1500:]}")
            assert process.returncode == 0, f"{who}: {self.log(who)[-1500:]}"

    def weights(self, who: str) -> Any:
        return load_bundle(self.folder / who / "detector").memory["network.model"]

    def alike(self, expected: Any = None) -> None:
        """All end with the same weights."""
        self.end()
        for name in self.names:
            np.testing.assert_allclose(self.weights(name), self.weights(self.names[0]) if expected is None else expected, atol=1e-6)


@contextmanager
def site_of(folder: Path, names: Sequence[str] = NAMES, network: Network | None = None) -> Iterator[Site]:
    site = Site(folder, names, network)
    try:
        yield site
    finally:
        for process in site.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def size_of(names: Sequence[str]) -> tuple[str, ...]:
    """Few rows, and a trainer that needs no torch: devices are there sooner."""
    return "--set", f"data.nodes={len(names)}", "--set", "data.train_hours=6", "--set", 'trainer.name="lowmem"'


def undisturbed(*changes: str) -> Any:
    """Return the weights that one machine comes to with the devices `NAMES`."""
    recipe = load_recipe("demo", changes=[change for change in (*size_of(NAMES), *changes) if change != "--set"])
    rows = {name: rows_of(recipe, None, 0, name) for name in NAMES}
    place = LocalRuntime(Fleet.of({n: r[0] for n, r in rows.items()}), Fleet.of({n: r[1] for n, r in rows.items()}))
    plan = plan_of(recipe.detector, recipe.strategy, 0, recipe.topology, trainer=recipe.trainer)
    return place.run(plan).memories[NAMES[0]]["network.model"]

"""Federations over networks that break: partitions that heal, links that are weak, a message of 1 GB; real processes, mutual TLS."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from commands import environment
from network import Network, Weak, network_of
from test_mesh import Site as Loopback
from test_mesh import port, undisturbed, until

from vedette.runtimes.mesh import keys
from vedette.runtimes.mesh.rules import key
from vedette.runtimes.mesh.session import DESCRIPTORS, MeshSettings, open_session

FIVE = tuple(f"pump-{place}" for place in range(1, 6))
THREE = FIVE[:3]
TWO = FIVE[:2]
GOSSIP = ("--set", 'topology.name="full"', "--deadline", "1", "--grace", "1")


class Site(Loopback):
    """Devices of one fleet, each in a namespace of its own, or all on loopback."""

    def __init__(self, folder: Path, names: tuple[str, ...], network: Network | None = None) -> None:
        self.folder, self.names, self.network, self.running = folder, names, network, {}
        self.address = f"127.0.0.1:{port()}" if network is None else network.address(next(iter(network.devices)))
        keys.init(folder / "ca")
        keys.add(folder / "ca", ["coordinator", *names])

    def begin(self, who: str, command: str, *more: str) -> None:
        whole = [sys.executable, "-m", "vedette.cli", command, "demo", "--keys", str(self.keys(who)), "--out", str(self.folder / who)]
        whole += ["--set", f"data.nodes={len(self.names)}", "--set", "data.train_hours=24", *more]
        within = [] if self.network is None else self.network.within(who)
        with (self.folder / f"{who}.log").open("w") as log:
            self.running[who] = subprocess.Popen([*within, *whole], stdout=log, stderr=subprocess.STDOUT, env=environment(), text=True)

    def keys(self, who: str) -> Path:
        return self.folder / "ca" / "devices" / who

    def lead(self, nodes: tuple[str, ...], *more: str) -> None:
        self.begin("coordinator", "coordinator", "--listen", self.address, "--nodes", str(len(nodes)), "--linger", "5", *more)
        for name in nodes:
            self.begin(name, "node", "--connect", self.address)

    def gossip(self, rounds: int) -> None:
        assert self.network is not None
        strategy = "--set", f'strategy={{name="gossip-fedavg",rounds={rounds}}}'
        for name in self.names:
            seed = ("--connect", self.address) if name != self.names[0] else ()
            self.begin(name, "peer", "--peers", ",".join(self.names), "--listen", self.network.address(name), *seed, *strategy, *GOSSIP)

    def signal(self, who: str, sign: signal.Signals) -> None:
        self.running[who].send_signal(sign)

    def reach(self, names: tuple[str, ...], what: str, times: int = 1) -> None:
        for name in names:
            until(lambda name=name: len(re.findall(what, self.log(name))) >= times, f"{name} never said '{what}' {times} times")

    def alike(self) -> None:
        """All end with the same weights."""
        self.end()
        for name in self.names:
            np.testing.assert_allclose(self.weights(name), self.weights(self.names[0]), atol=1e-6)


@contextmanager
def site_of(folder: Path, names: tuple[str, ...], network: Network | None = None) -> Iterator[Site]:
    site = Site(folder, names, network)
    try:
        yield site
    finally:
        for process in site.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def test_a_node_that_is_cut_off_is_gone_and_comes_back(tmp_path: Path) -> None:
    with network_of("coordinator", *THREE) as network, site_of(tmp_path, THREE, network) as site:
        site.lead(THREE, "--deadline", "2", "--grace", "1", "--set", "strategy.rounds=150")
        site.reaches("coordinator", "rounds: round 10 of")
        network.cut("pump-3")
        site.reaches("coordinator", "deadline over: missing pump-3")
        site.reaches("coordinator", "node is gone: node pump-3")
        alone = site.log("coordinator").count("rounds: round")
        until(lambda: site.log("coordinator").count("rounds: round") > alone + 5, "it never went on without pump-3")
        # Two of three must answer: the run stands still until one comes back.
        site.signal("pump-2", signal.SIGSTOP)
        network.heal("pump-3")
        until(lambda: site.log("coordinator").count("node is there: node pump-3") == 2, "pump-3 never came back")
        site.signal("pump-2", signal.SIGCONT)
        site.alike()
        rounds = [int(number) for number in re.findall(r"round (\d+)", site.log("pump-3"))]
        assert max(after - before for before, after in pairwise(rounds)) > 5, "it never missed a round"


def test_peers_that_are_cut_in_two_go_on_and_agree_again(tmp_path: Path) -> None:
    """The links stay: each step waits for who is silent, up to its deadline, and the last ones are for all again."""
    with network_of(*FIVE) as network, site_of(tmp_path, FIVE, network) as site:
        site.gossip(rounds=40)
        site.reaches("pump-1", "rounds: round 10 of")
        network.cut("pump-1", "pump-2")
        begun = time.monotonic()
        site.reach(("pump-1", "pump-2"), "not heard: step .*pump-3.*pump-4.*pump-5", times=2)
        site.reach(("pump-3", "pump-4", "pump-5"), "not heard: step .*pump-1.*pump-2", times=2)
        assert time.monotonic() - begun < 10, "a step outlived its deadline"
        network.heal("pump-1", "pump-2")
        site.alike()


def test_a_peer_that_was_left_behind_goes_on_where_the_others_are(tmp_path: Path) -> None:
    with network_of(*THREE) as network, site_of(tmp_path, THREE, network) as site:
        site.gossip(rounds=200)
        site.reaches("pump-1", "rounds: round 10 of")
        network.cut("pump-3")
        site.signal("pump-3", signal.SIGSTOP)
        site.reach(TWO, "peer is gone: node pump-3")
        site.reaches("pump-1", "rounds: round 50 of")
        # Whoever is silent holds the other at each step, up to its deadline.
        site.signal("pump-2", signal.SIGSTOP)
        network.heal("pump-3")
        site.signal("pump-3", signal.SIGCONT)
        site.reaches("pump-3", "left behind: at ")
        site.signal("pump-2", signal.SIGCONT)
        site.alike()
        before, after = map(int, re.findall(r"left behind: at (\d+), going_on_at (\d+)", site.log("pump-3"))[0])
        assert after - before > 16


def test_over_a_weak_link_all_come_to_what_one_machine_comes_to(tmp_path: Path) -> None:
    """200 ms and 2 % loss each way, 1 Mbit/s: a round takes what its bytes take, and some more that TCP makes of what is lost."""
    wide, rounds, weak = ("--set", "detector.hidden=[256,16]", "--set", "strategy.rounds=4"), 4, Weak()
    with network_of("coordinator", *THREE, weak={"pump-3": weak}) as network, site_of(tmp_path, THREE, network) as site:
        site.lead(THREE, *wide)
        site.reaches("coordinator", "rounds: round 1 of")
        begun, carried = time.monotonic(), network.shuttles[0].carried
        site.reaches("coordinator", f"rounds: round {rounds} of")
        seconds, bits = time.monotonic() - begun, 8 * (network.shuttles[0].carried - carried)
        site.alike()
        least = bits / weak.bits_per_second + (rounds - 1) * 2 * weak.delay
        # At least the inbox and the answer, of four bytes a weight, cross the link in each round.
        assert bits >= (rounds - 1) * 2 * 32 * site.weights("pump-3").size
        assert least * 0.9 < seconds < least * 10
        np.testing.assert_allclose(site.weights("pump-3"), undisturbed(*wide), atol=1e-6)


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs /proc")
def test_no_link_keeps_others_waiting_while_it_is_closed() -> None:
    """Zenoh lets each wait for 10 s if who is at its other end has vanished."""

    def waits(descriptor: Path) -> bool:
        with suppress(OSError), socket.socket(fileno=os.dup(int(descriptor.name))) as held:
            return held.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER) != 0
        return False

    at = f"127.0.0.1:{port()}"
    a, _ = open_session(MeshSettings(insecure=True, name="a", listen=(at,)))
    b, _ = open_session(MeshSettings(insecure=True, name="b", connect=(at,)))
    try:
        until(lambda: list(a.info.links()) and list(b.info.links()), "no link")
        until(lambda: not [one for one in DESCRIPTORS.iterdir() if one.is_socket() and waits(one)], "a link waits")
    finally:
        b.close()
        a.close()


def peak(process: subprocess.Popen[str]) -> int:
    """Most bytes that a process ever had in memory."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())[0]) << 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_message_of_1_gb_is_refused(tmp_path: Path) -> None:
    with site_of(tmp_path, TWO) as site:
        keys.add(tmp_path / "ca", ["pump-3"])
        site.lead(("pump-1",), "--nodes", "2", "--set", "strategy.rounds=5")
        site.reaches("coordinator", "node is there: node pump-1")
        before = peak(site.running["coordinator"])
        settings = MeshSettings(credentials=site.keys("pump-3"), connect=(site.address,), listen=(), coordinator="coordinator")
        session, _ = open_session(settings)
        try:
            asked = partial(session.get, key("fleet", "coordinator", "pump-3", "join"))
            until(lambda: list(asked()), "the coordinator never replied")
            assert not [reply for reply in asked(payload=bytes(1 << 30), timeout=1) if reply.ok is not None]
            # What comes after it on the same link is heard: it has passed, and was left out.
            until(lambda: list(asked()), "the coordinator never replied again")
        finally:
            session.close()
        site.reaches("coordinator", "link is made: node pump-3")
        host, _, at = site.address.rpartition(":")
        with socket.create_connection((host, int(at)), timeout=30) as raw, pytest.raises(OSError, match=r"reset|Broken pipe"):
            raw.sendall(bytes(1 << 30))
        assert peak(site.running["coordinator"]) - before < 200 << 20
        site.begin("pump-2", "node", "--connect", site.address)
        site.alike()

"""Federations over networks that break: partitions that heal, links that are weak, a message of 1 GB; real processes, mutual TLS."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from network import Weak, network_of
from sites import Site, port, site_of, undisturbed, until

from vedette.runtimes.mesh import keys
from vedette.runtimes.mesh.rules import key
from vedette.runtimes.mesh.session import DESCRIPTORS, MeshSettings, open_session

FIVE = tuple(f"pump-{place}" for place in range(1, 6))
THREE = FIVE[:3]
TWO = FIVE[:2]
GOSSIP = ("--set", 'topology.name="full"', "--deadline", "1", "--grace", "1")


def gossip(site: Site, rounds: int) -> None:
    for name in site.names:
        site.peer(name, "--set", f'strategy={{name="gossip-fedavg",rounds={rounds}}}', *GOSSIP)


def reach(site: Site, names: tuple[str, ...], what: str, times: int = 1) -> None:
    for name in names:
        site.reaches(name, what, times)


@pytest.mark.slow
def test_a_node_that_is_cut_off_is_gone_and_comes_back(tmp_path: Path) -> None:
    with network_of("coordinator", *THREE) as network, site_of(tmp_path, THREE, network) as site:
        site.lead("--deadline", "2", "--grace", "1", "--set", "strategy.rounds=90")
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


@pytest.mark.slow
def test_peers_that_are_cut_in_two_go_on_and_agree_again(tmp_path: Path) -> None:
    """The links stay: each step waits for who is silent, up to its deadline, and the last ones are for all again."""
    with network_of(*FIVE) as network, site_of(tmp_path, FIVE, network) as site:
        gossip(site, rounds=25)
        site.reaches("pump-1", "rounds: round 10 of")
        network.cut("pump-1", "pump-2")
        begun = time.monotonic()
        reach(site, ("pump-1", "pump-2"), "not heard: step .*pump-3.*pump-4.*pump-5", times=2)
        reach(site, ("pump-3", "pump-4", "pump-5"), "not heard: step .*pump-1.*pump-2", times=2)
        assert time.monotonic() - begun < 10, "a step outlived its deadline"
        network.heal("pump-1", "pump-2")
        site.alike()


@pytest.mark.slow
def test_a_peer_that_was_left_behind_goes_on_where_the_others_are(tmp_path: Path) -> None:
    with network_of(*THREE) as network, site_of(tmp_path, THREE, network) as site:
        gossip(site, rounds=120)
        site.reaches("pump-1", "rounds: round 10 of")
        network.cut("pump-3")
        site.signal("pump-3", signal.SIGSTOP)
        reach(site, TWO, "peer is gone: node pump-3")
        site.reaches("pump-1", "rounds: round 40 of")
        # Whoever is silent holds the other at each step, up to its deadline.
        site.signal("pump-2", signal.SIGSTOP)
        network.heal("pump-3")
        site.signal("pump-3", signal.SIGCONT)
        site.reaches("pump-3", "left behind: at ")
        site.signal("pump-2", signal.SIGCONT)
        site.alike()
        before, after = map(int, re.findall(r"left behind: at (\d+), going_on_at (\d+)", site.log("pump-3"))[0])
        assert after - before > 16


@pytest.mark.slow
def test_over_a_weak_link_all_come_to_what_one_machine_comes_to(tmp_path: Path) -> None:
    """200 ms and 2 % loss each way, 1 Mbit/s: a round takes what its bytes take, and some more that TCP makes of what is lost."""
    wide, rounds, weak = ("--set", "detector.hidden=[256,16]", "--set", "strategy.rounds=4"), 4, Weak()
    with network_of("coordinator", *THREE, weak={"pump-3": weak}) as network, site_of(tmp_path, THREE, network) as site:
        site.lead(*wide)
        site.reaches("coordinator", "rounds: round 1 of")
        begun, carried = time.monotonic(), network.shuttles[0].carried
        site.reaches("coordinator", f"rounds: round {rounds} of")
        seconds, bits = time.monotonic() - begun, 8 * (network.shuttles[0].carried - carried)
        site.alike(undisturbed(*wide))
        least = bits / weak.bits_per_second + (rounds - 1) * 2 * weak.delay
        # At least the inbox and the answer, of four bytes a weight, cross the link in each round.
        assert bits >= (rounds - 1) * 2 * 32 * site.weights("pump-3").size
        assert seconds > 0.9 * least


@pytest.mark.slow
def test_a_weak_link_does_not_hold_the_others(tmp_path: Path) -> None:
    """What one is sent takes minutes; the others' rounds end at their deadline."""
    wide = "--set", "detector.hidden=[8192,16]", "--set", 'strategy={name="fedavg",rounds=500,epochs=0.001}'
    weak = Weak(delay=0.05, loss=0.0, bits_per_second=1e5)
    with network_of("coordinator", *THREE, weak={"pump-3": weak}) as network, site_of(tmp_path, THREE, network) as site:
        site.coordinator("--nodes", "2", "--deadline", "1", "--quorum", "0.5", *wide)
        for name in TWO:
            site.node(name)
        site.reaches("coordinator", "rounds: round 2 of")
        site.node("pump-3")
        site.reaches("coordinator", "deadline over: missing pump-3")
        reached, gaps = site.log("coordinator").count("rounds: round"), list[float]()
        for number in range(reached + 1, reached + 7):
            begun = time.monotonic()
            site.reaches("coordinator", f"rounds: round {number} of")
            gaps.append(time.monotonic() - begun)
        assert max(gaps) < 5


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs /proc")
def test_open_files_stay_the_same_after_links_come_and_go() -> None:
    at = f"127.0.0.1:{port()}"
    a, _ = open_session(MeshSettings(insecure=True, name="a", listen=(at,)))

    def come_and_go() -> None:
        b, _ = open_session(MeshSettings(insecure=True, name="b", connect=(at,)))
        until(lambda: list(a.info.links()) and list(b.info.links()), "no link")
        b.close()
        until(lambda: not list(a.info.links()), "the link stays")

    def opened() -> int:
        return len(list(DESCRIPTORS.iterdir()))

    try:
        come_and_go()
        before = opened()
        for _ in range(5):
            come_and_go()
        until(lambda: opened() <= before, "more files are open than before")
    finally:
        a.close()


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
@pytest.mark.slow
def test_a_message_of_1_gb_is_refused(tmp_path: Path) -> None:
    with site_of(tmp_path, TWO) as site:
        keys.add(tmp_path / "ca", ["pump-3"])
        site.coordinator("--set", "strategy.rounds=5")
        site.node("pump-1")
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
        site.node("pump-2")
        site.alike()

"""Networks of namespaces on this machine: links that are cut and healed, and links that are weak, under real TCP."""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import pytest

__all__ = ["Network", "Weak", "network_of"]

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000

TUN = "/dev/net/tun"

SIDES, CARD = ("side0", "side1"), "net"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Weak(NamedTuple):
    """A link, each way: as `tc netem` at both of its ends, so a round trip takes twice the delay."""

    delay: float = 0.2
    loss: float = 0.02
    bits_per_second: float = 1e6
    seed: int = 7


class Network:
    """Devices, a namespace each, at a switch with two sides that know nothing of each other; all begin at the first."""

    def __init__(self, *devices: str) -> None:
        self.devices, self.prefix, self.shuttles = devices, f"vedette-{os.getpid()}", list[Shuttle]()
        self.switch = f"{self.prefix}-switch"

    def begin(self, weak: Mapping[str, Weak]) -> None:
        for side in SIDES:
            ip("-n", self.switch, "link", "add", "name", side, "up", "type", "bridge")
        for device in self.devices:
            space = f"{self.prefix}-{device}"
            ip("netns", "add", space)
            if device in weak:
                self.shuttles.append(Shuttle(weak[device], (space, CARD), (self.switch, device)))
            else:
                ip("-n", self.switch, "link", "add", "name", device, "type", "veth", "peer", "name", CARD, "netns", space)
            ip("-n", self.switch, "link", "set", "dev", device, "master", SIDES[0], "up")
            ip("-n", space, "address", "add", f"{self.address(device).partition(':')[0]}/24", "dev", CARD)
            ip("-n", space, "link", "set", CARD, "up")

    def address(self, device: str) -> str:
        return f"10.77.0.{self.devices.index(device) + 1}:7447"

    def within(self, device: str) -> list[str]:
        """What a command begins with to run on a device; it takes the place of this, under the same process id."""
        return ["ip", "netns", "exec", f"{self.prefix}-{device}"]

    def cut(self, *devices: str) -> None:
        """Take devices to the other side: they reach each other, and nobody else."""
        self._move(SIDES[1], devices)

    def heal(self, *devices: str) -> None:
        self._move(SIDES[0], devices)

    def _move(self, side: str, devices: tuple[str, ...]) -> None:
        for device in devices:
            ip("-n", self.switch, "link", "set", "dev", device, "master", side)

    def end(self) -> None:
        for shuttle in self.shuttles:
            shuttle.end()
        for name in (self.switch, *(f"{self.prefix}-{device}" for device in self.devices)):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


class Shuttle:
    """A cable between two TAP devices: holds each frame back, drops some, lets so many bits through."""

    def __init__(self, weak: Weak, *ends: tuple[str, str]) -> None:
        self.weak, self.carried = weak, 0
        self.taps = [_tap(*end) for end in ends]
        self.stop, self._stopped = os.pipe()
        self.thread = threading.Thread(target=self._carry)
        self.thread.start()

    def _carry(self) -> None:
        drawn, queues, free = random.Random(self.weak.seed), [deque[tuple[float, bytes]](), deque[tuple[float, bytes]]()], [0.0, 0.0]
        while True:
            due = min((queue[0][0] for queue in queues if queue), default=float("inf"))
            ready, _, _ = select.select([*self.taps, self.stop], [], [], max(0.0, min(due - time.monotonic(), 1.0)))
            if self.stop in ready:
                return
            now = time.monotonic()
            for way, (source, queue) in enumerate(zip(self.taps, queues, strict=True)):
                if source in ready:
                    frame = os.read(source, 1 << 16)
                    free[way] = max(free[way], now) + 8 * len(frame) / self.weak.bits_per_second
                    if drawn.random() >= self.weak.loss:
                        queue.append((free[way] + self.weak.delay, frame))
                while queue and queue[0][0] <= now:
                    frame = queue.popleft()[1]
                    self.carried += len(frame)
                    os.write(self.taps[1 - way], frame)

    def end(self) -> None:
        os.close(self._stopped)
        self.thread.join()
        for one in (self.stop, *self.taps):
            os.close(one)


def _tap(space: str, name: str) -> int:
    """Make a TAP device in a namespace; it is gone when what is returned is closed."""
    one = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    made = fcntl.ioctl(one, TUNSETIFF, struct.pack("16sH22x", b"tap%d", IFF_TAP | IFF_NO_PI))
    ip("link", "set", made[:16].rstrip(b"\0").decode(), "netns", space, "name", name)
    return one


@contextmanager
def network_of(*devices: str, weak: Mapping[str, Weak] | None = None) -> Iterator[Network]:
    """Make a network, and take it away again; tests are skipped where that is not allowed."""
    network = Network(*devices)
    try:
        if weak:
            os.close(os.open(TUN, os.O_RDWR))
        ip("netns", "add", network.switch)
    except FileNotFoundError as error:
        pytest.skip(f"networks need iproute2 and TUN: {error}")
    except (OSError, subprocess.CalledProcessError) as error:
        network.end()
        pytest.skip(f"networks need root, and a kernel with namespaces and TUN: {getattr(error, 'stderr', None) or error}")
    try:
        network.begin(weak or {})
        yield network
    finally:
        network.end()

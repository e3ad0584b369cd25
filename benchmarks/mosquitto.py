"""A real MQTT broker for the benchmarks: Mosquitto, as Debian packages it, on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

__all__ = ["Mosquitto", "until"]


class Mosquitto:
    """Starts with what it has to be told; a context that kills it at the end.

    Parameters
    ----------
    folder
        For its settings.
    lines
        More of them; nothing it holds is ever dropped.
    """

    def __init__(self, folder: Path, *lines: str) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = int(one.getsockname()[1])
        self._settings = folder / "mosquitto.conf"
        # Started as root, it would become somebody who cannot read the folder.
        said = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "max_queued_messages 0", "user root", *lines]
        self._settings.write_text("\n".join(said) + "\n")
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/sbin")
        if program is None:
            sys.exit("needs Mosquitto: apt-get install mosquitto")
        self.process = subprocess.Popen([program, "-c", self._settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers, 20)

    def stop(self) -> None:
        """End it so that it writes what it holds to its disk; killed outright it loses messages that it has acknowledged."""
        self.process.terminate()
        self.process.wait()

    def _answers(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0


def until(done: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            sys.exit("waited in vain")
        threading.Event().wait(0.01)

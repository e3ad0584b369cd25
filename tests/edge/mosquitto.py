"""A real MQTT broker for tests: Mosquitto, as Debian packages it."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from listening import until
from paho.mqtt.enums import CallbackAPIVersion

PROGRAM = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/sbin") or ""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of 127.0.0.1 that vouches for itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - datetime.timedelta(days=1), now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*plain))
    return folder / "cert.pem", folder / "key.pem"


class Mosquitto:
    """A broker on loopback; it may be stopped and started again on its port.

    Parameters
    ----------
    folder
        For its settings.
    lines
        More of them.
    """

    def __init__(self, folder: Path, *lines: str) -> None:
        if not PROGRAM:
            pytest.skip("needs Mosquitto (Debian: mosquitto)")
        self.port, self.settings = free_port(), folder / "mosquitto.conf"
        anonymous = [] if any("allow_anonymous" in line for line in lines) else ["allow_anonymous true"]
        # Started as root, it would become somebody who cannot read a test's folder.
        said = ["user root", f"listener {self.port} 127.0.0.1", "max_queued_messages 0", *anonymous, *lines]
        self.settings.write_text("\n".join(said) + "\n")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([PROGRAM, "-c", str(self.settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "Mosquitto did not start"
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, kill: bool = False) -> None:
        if self.process is not None:
            (self.process.kill if kill else self.process.terminate)()
            self.process.wait()
            self.process = None


class Listener:
    """Subscribes to everything, and keeps what it hears."""

    def __init__(self, port: int, topic: str = "#", user: tuple[str, str] | None = None) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        ready = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        if user is not None:
            self.client.username_pw_set(*user)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_message = self._note
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert ready.wait(60)

    def _note(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        self.heard.append((message.topic, message.payload, message.retain))

    def on(self, topic: str) -> list[bytes]:
        return [payload for where, payload, _ in self.heard if where == topic]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

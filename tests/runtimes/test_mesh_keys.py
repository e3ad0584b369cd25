"""A fleet's keys: each device gets what it needs and nothing more, and what no longer holds is told apart."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from commands import refused, vedette
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1

from vedette.errors import KeysError, MissingExtra
from vedette.runtimes.mesh.keys import add, credentials, init, renew, revoke, roster

NAMES = ["coordinator", "pi-1", "pi_2"]


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    init(tmp_path / "plant")
    add(tmp_path / "plant", NAMES)
    return tmp_path / "plant"


def device(plant: Path, name: str = "pi-1") -> Path:
    return plant / "devices" / name


def test_a_device_gets_what_it_needs_and_no_more(plant: Path) -> None:
    files = {path.name: path.stat().st_mode & 0o777 for path in device(plant).iterdir()}
    assert files == {"device.key": 0o600, "device.pem": 0o644, "authority.pem": 0o644, "roster.json": 0o644}
    assert (plant / "authority.key").stat().st_mode & 0o777 == 0o600
    secret = (plant / "authority.key").read_bytes()
    assert not any(path.read_bytes() == secret for path in plant.glob("devices/*/*"))
    own = credentials(device(plant))
    assert (own.name, own.others) == ("pi-1", ("coordinator", "pi_2"))


def test_certificates_are_for_devices_and_end(plant: Path) -> None:
    add(plant, ["short"], days=2)
    certificate = x509.load_pem_x509_certificate((device(plant, "short") / "device.pem").read_bytes())
    authority = x509.load_pem_x509_certificate((plant / "authority.pem").read_bytes())
    certificate.verify_directly_issued_by(authority)
    assert certificate.subject.rfc4514_string() == "CN=short"
    assert isinstance(certificate.public_key().curve, SECP256R1)  # type: ignore[union-attr]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    assert abs(certificate.not_valid_after_utc - datetime.now(UTC) - timedelta(days=2)) < timedelta(minutes=1)
    assert roster(plant)["short"].expires == certificate.not_valid_after_utc


@pytest.mark.parametrize("name", ["", "a/b", "*", "a*", "$*", "a b", "a.b", "all", "-a", "ä", "a" * 64, "../x", "a\n"])
def test_names_that_could_mean_something_else_are_refused(plant: Path, name: str) -> None:
    with pytest.raises(KeysError, match="cannot be a name"):
        add(plant, ["good", name])
    assert list(roster(plant)) == NAMES
    assert not device(plant, "good").exists()


def test_a_name_is_given_once(plant: Path) -> None:
    for names in (["pi-1"], ["PI-1"], ["new", "New"]):
        with pytest.raises(KeysError, match="already"):
            add(plant, names)
    revoke(plant, "pi-1")
    with pytest.raises(KeysError, match="never given out again"):
        add(plant, ["pi-1"])
    with pytest.raises(KeysError, match="was revoked"):
        renew(plant, ["pi_2", "pi-1"])
    with pytest.raises(KeysError, match="did you mean 'pi_2'"):
        revoke(plant, "pi_3")
    with pytest.raises(KeysError, match="has an authority already"):
        init(plant)


def test_renewed_devices_have_a_new_key(plant: Path) -> None:
    before = (device(plant) / "device.key").read_bytes()
    with pytest.raises(KeysError, match="the authority itself ends on"):
        renew(plant, ["pi-1"], days=4000)
    assert (device(plant) / "device.key").read_bytes() == before
    credentials(device(plant))
    renew(plant, ["pi-1"], days=900)
    assert (device(plant) / "device.key").read_bytes() != before
    assert credentials(device(plant)).name == "pi-1"
    assert roster(plant)["pi-1"].expires > datetime.now(UTC) + timedelta(days=899)


def test_revoked_devices_are_out_for_all_who_have_the_roster(plant: Path) -> None:
    revoke(plant, "pi-1")
    since = roster(plant)["pi-1"].revoked
    revoke(plant, "pi-1")
    assert roster(plant)["pi-1"].revoked == since
    with pytest.raises(KeysError, match="was revoked"):
        credentials(device(plant))
    assert credentials(device(plant, "pi_2")).others == ("coordinator",)


def test_credentials_that_do_not_hold_are_refused(plant: Path, tmp_path: Path) -> None:
    init(tmp_path / "other")
    add(tmp_path / "other", ["pi-1"])
    strange, own = device(tmp_path / "other"), device(plant)
    add(plant, ["brief"], days=1e-7)

    def spoilt(file: str, content: bytes, why: str) -> None:
        before = (own / file).read_bytes()
        (own / file).write_bytes(content)
        with pytest.raises(KeysError, match=why):
            credentials(own)
        (own / file).write_bytes(before)

    spoilt("device.key", (strange / "device.key").read_bytes(), "do not belong together")
    spoilt("authority.pem", (strange / "authority.pem").read_bytes(), "of another authority")
    spoilt("device.pem", b"nothing", "cannot read .*device.pem")
    spoilt("device.key", b"nothing", "cannot read .*device.key")
    for text in (b"", b"[]", b'{"schema": "vedette.roster/2", "devices": {}}', b'{"schema": "vedette.roster/1", "devices": {"a/b": {}}}'):
        spoilt("roster.json", text, "cannot read .*roster.json")
    spoilt("roster.json", b'{"schema": "vedette.roster/1", "devices": {}}', "nobody is called 'pi-1'")
    credentials(own)
    (own / "device.key").chmod(0o640)
    with pytest.raises(KeysError, match="chmod 600"):
        credentials(own)
    (own / "device.key").unlink()
    with pytest.raises(KeysError, match="No such file"):
        credentials(own)
    with pytest.raises(KeysError, match=r"holds from .* 'vedette keys renew'"):
        credentials(device(plant, "brief"))


def test_the_command_line_makes_lists_renews_and_revokes(tmp_path: Path) -> None:
    plant = tmp_path / "plant"
    assert "'vedette keys init'" in refused("keys", "add", plant, "pi-1")
    for arguments in (("init", plant), ("add", plant, "hub", "pi-1", "--days", "30"), ("renew", plant, "pi-1"), ("revoke", plant, "hub")):
        done = vedette("keys", *arguments)
        assert done.returncode == 0, done.stderr
    assert "roster.json" in done.stdout
    said = json.loads(vedette("keys", "list", plant, "--json").stdout)
    assert said["schema"] == "vedette.keys/1"
    assert [name for name, found in said["devices"].items() if found["revoked"]] == ["hub"]
    shown = vedette("keys", "list", plant).stdout
    assert "holds" in shown
    assert "revoked 20" in shown
    assert "[keys]" in refused("keys", "add", plant, "a/b")
    for command in ("init", "add", "renew", "revoke", "list"):
        assert "Example: vedette keys" in vedette("keys", command, "--help").stdout


def test_without_its_libraries_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith(("cryptography", "vedette.runtimes.mesh."))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtra, match="pip install 'vedette\\[mesh\\]'"):
        __import__("vedette.runtimes.mesh.keys")


@pytest.mark.parametrize("command", ["coordinator", "node", "peer --peers a,b"])
@pytest.mark.parametrize("who", ["", "--keys somewhere --insecure a"])
def test_who_does_not_say_or_says_twice_who_it_is_gets_one_line(command: str, who: str) -> None:
    name, *more = command.split()
    line = refused(name, "demo", *more, *who.split())
    assert "say who this is: --keys FOLDER (made by 'vedette keys add'), or --insecure NAME on one machine [recipe]" in line
    assert "got" not in line

"""Sessions over real TLS: a device speaks only as itself and reads only what is addressed to it, whatever it tries."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zenoh
from zenoh import CongestionControl, Locality

from vedette.errors import AddressError, KeysError, VedetteError
from vedette.runtimes.mesh import keys
from vedette.runtimes.mesh.rules import ALL, Place, alive, inbox, key, place_of
from vedette.runtimes.mesh.session import MeshSettings, _common, _secured, open_session
from vedette.settings import validated

HUB = "hub"
RUN = "r"
PATIENCE = 20.0


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    keys.init(tmp_path / "plant")
    keys.add(tmp_path / "plant", [HUB, "a", "b", "c"])
    return tmp_path / "plant"


class Site:
    """Opens sessions, and closes them in the end."""

    def __init__(self, plant: Path) -> None:
        self.plant, self.sessions = plant, list[zenoh.Session]()

    def opens(self, name: str, plant: Path | None = None, **settings: Any) -> zenoh.Session:
        session, said = open_session(MeshSettings(credentials=(plant or self.plant) / "devices" / name, **settings))
        self.sessions.append(session)
        assert said == name
        return session

    def rogue(self, name: str, address: str, plant: Path | None = None, **entries: Any) -> zenoh.Session:
        """Link with a device's credentials, once and without access rules: what someone does who has taken it over."""
        folder = (plant or self.plant) / "devices" / name
        settings = MeshSettings(credentials=folder, connect=(address,), listen=())
        secured = {"transport/link/tls": TLS(folder), "mode": "client", "connect/timeout_ms": 0, "connect/exit_on_failure": True}
        config = zenoh.Config()
        for place, value in {**_common(settings), **secured, **entries}.items():
            config.insert_json5(place, json.dumps(value))
        self.sessions.append(zenoh.open(config))
        return self.sessions[-1]


def TLS(folder: Path) -> dict[str, Any]:
    """What a device's credentials make of the configuration, those that do not hold as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "credentials", lambda folder: keys.Credentials(folder, "x", ()))
        found: dict[str, Any] = _secured(folder, "")[1]["transport/link/tls"]
    return found


@pytest.fixture
def site(plant: Path) -> Iterator[Site]:
    found = Site(plant)
    yield found
    for session in found.sessions:
        session.close()


def free() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def linked(session: zenoh.Session) -> set[str | None]:
    return {link.auth_identifier for link in session.info.links()}


class Ear:
    """What came to a session from others under some keys."""

    def __init__(self, session: zenoh.Session, *keys: str) -> None:
        self.heard = list[tuple[str, bytes]]()
        self.held = [session.declare_subscriber(one, self.hear, allowed_origin=Locality.REMOTE) for one in keys]

    def hear(self, sample: zenoh.Sample) -> None:
        self.heard.append((str(sample.key_expr), sample.payload.to_bytes()))


def answering(session: zenoh.Session, name: str, said: bytes) -> list[str]:
    """Answer whatever a session is asked under a key; return the questions, as they come."""
    asked = list[str]()

    def answer(query: zenoh.Query) -> None:
        asked.append(str(query.key_expr))
        query.reply(query.key_expr, said)

    session.declare_queryable(name, answer)
    return asked


def ask(session: zenoh.Session, name: str) -> list[bytes]:
    replies = session.get(name, timeout=PATIENCE, allowed_destination=Locality.REMOTE)
    return [reply.ok.payload.to_bytes() for reply in replies if reply.ok is not None]


def says(speaker: zenoh.Session, sender: str, receiver: str, what: bytes, ear: Ear) -> None:
    """Say something until it is heard: it is lost while the listener's wish to hear is under way."""
    said = (key(RUN, receiver, sender, "x"), what)
    until(lambda: (speaker.put(*said), said in ear.heard)[1])


def test_keys_are_taken_apart_as_they_were_put_together() -> None:
    assert key("r", "a", HUB, "round/3") == "vedette/r/to/a/from/hub/round/3"
    assert place_of("vedette/r/to/a/from/hub/round/3") == Place("r", "a", HUB, "round/3")
    for other in ("vedette/r/to/a/from/hub", "vedette/r/alive/a", "x/r/to/a/from/hub/y", "vedette/r/to/a/by/hub/y"):
        assert place_of(other) is None


@pytest.mark.parametrize("listen", [(), ("127.0.0.1:0",)], ids=["silent", "listening"])
def test_a_coordinator_and_a_node_talk_both_ways(site: Site, listen: tuple[str, ...]) -> None:
    address = free()
    node = site.opens("a", connect=(address,), listen=listen, coordinator=HUB)
    mine = Ear(node, inbox(RUN, "a"), inbox(RUN, ALL))
    token = node.liveliness().declare_token(alive(RUN, "a"))
    hub = site.opens(HUB, listen=(address,), coordinator=HUB)
    told = Ear(hub, inbox(RUN, HUB))
    tokens = list[str]()
    watch = hub.liveliness().declare_subscriber(alive(RUN), lambda sample: tokens.append(f"{sample.key_expr} {sample.kind}"), history=True)
    says(node, "a", HUB, b"update", told)
    says(hub, HUB, "a", b"plan", mine)
    says(hub, HUB, ALL, b"begin", mine)
    answering(hub, inbox(RUN, HUB), b"state")
    until(lambda: ask(node, key(RUN, HUB, "a", "state")) == [b"state"])
    answering(node, inbox(RUN, "a"), b"mine")
    until(lambda: ask(hub, key(RUN, "a", HUB, "state")) == [b"mine"])
    until(lambda: tokens == ["vedette/r/alive/a SampleKind.PUT"])
    token.undeclare()
    until(lambda: tokens[1:] == ["vedette/r/alive/a SampleKind.DELETE"])
    watch.undeclare()


def test_peers_find_each_other_through_anyone_and_hear_only_what_is_theirs(site: Site) -> None:
    address = free()
    peers = {"a": site.opens("a", listen=(address,))} | {name: site.opens(name, connect=(address,)) for name in ("b", "c")}
    ears = {name: Ear(peer, inbox(RUN, name), "vedette/r/to/*/from/*/**") for name, peer in peers.items()}
    until(lambda: all(linked(peers[name]) >= peers.keys() - {name} for name in peers))
    for receiver, ear in ears.items():
        for sender in peers.keys() - {receiver}:
            says(peers[sender], sender, receiver, sender.encode(), ear)
    for name, ear in ears.items():
        assert {(place.receiver, place.sender) for place in map(place_of, dict(ear.heard)) if place} == {
            (name, o) for o in peers if o != name
        }


@pytest.mark.parametrize("star", [True, False], ids=["coordinator", "peers"])
def test_nobody_speaks_under_anothers_name(site: Site, star: bool) -> None:
    address, coordinator = free(), HUB if star else ""
    hub = site.opens(HUB, listen=(address,), coordinator=coordinator)
    a = site.opens("a", connect=(address,), coordinator=coordinator)
    rogue = site.rogue("b", address)
    told, mine = Ear(hub, inbox(RUN, HUB), inbox(RUN, ALL)), Ear(a, inbox(RUN, "a"), inbox(RUN, ALL))
    says(rogue, "b", HUB, b"begin", told)
    says(hub, HUB, "a", b"begin", mine)
    heard, got = list(told.heard), list(mine.heard)
    tokens = list[str]()
    watch = hub.liveliness().declare_subscriber(alive(RUN), lambda sample: tokens.append(str(sample.key_expr)), history=True)
    held = [rogue.liveliness().declare_token(alive(RUN, name)) for name in ("a", "b")]
    forged = [key(RUN, HUB, "a", "x"), key(RUN, "*", "a", "x"), key(RUN, HUB, "*", "x"), key(RUN, ALL, "a", "x"), "vedette/**", "**"]
    forged += [
        key(RUN, "a", HUB, "x"),
        key(RUN, "*", "*", "x"),
        key(RUN, "a", "b", "x"),
        key(RUN, HUB, "a$*", "x"),
        key("*", HUB, "a", "x"),
    ]
    publisher = rogue.declare_publisher(forged[0])
    for name in forged:
        rogue.put(name, b"forged")
        rogue.delete(name)
    publisher.put(b"forged")
    rogue.delete(key(RUN, HUB, "b", "x"))
    # What is said on a link comes in its order: after this nothing is on its way.
    says(rogue, "b", HUB, b"end", told)
    says(hub, HUB, "a", b"end", mine)
    assert {what for _, what in told.heard[len(heard) :]} == {b"end"}
    assert {what for _, what in mine.heard[len(got) :]} <= {b"begin", b"end"}
    until(lambda: tokens == ["vedette/r/alive/b"])
    watch.undeclare()
    assert held


@pytest.mark.parametrize("star", [True, False], ids=["coordinator", "peers"])
def test_nobody_reads_what_is_anothers(site: Site, star: bool) -> None:
    address, coordinator = free(), HUB if star else ""
    hub = site.opens(HUB, listen=(address,), coordinator=coordinator)
    a = site.opens("a", connect=(address,), coordinator=coordinator)
    rogue = site.rogue("b", address)
    stolen = Ear(rogue, "**", "vedette/**", "vedette/r/to/a/**", "vedette/r/to/hub/**", "vedette/*/to/*/from/*/**", inbox(RUN, "b"))
    asked = [answering(rogue, name, b"forged") for name in ("**", "vedette/r/to/hub/**", "vedette/r/to/a/**")]
    seen = list[str]()
    watch = rogue.liveliness().declare_subscriber("**", lambda sample: seen.append(str(sample.key_expr)), history=True)
    token = a.liveliness().declare_token(alive(RUN, "a"))
    told, mine = Ear(hub, inbox(RUN, HUB)), Ear(a, inbox(RUN, "a"))
    answering(hub, inbox(RUN, HUB), b"true")
    says(rogue, "b", HUB, b"begin", told)
    says(hub, HUB, "a", b"secret", mine)
    says(a, "a", HUB, b"secret", told)
    until(lambda: ask(a, key(RUN, HUB, "a", "state")) == [b"true"])
    assert ask(hub, key(RUN, "a", HUB, "state")) == []
    begun = time.monotonic()
    for name in (key(RUN, HUB, "a", "state"), key(RUN, "*", "*", "**"), "**"):
        assert ask(rogue, name) == []
    assert time.monotonic() - begun < PATIENCE, "a refused question ends at once"
    assert ask(rogue, key(RUN, HUB, "b", "state")) == [b"true"]
    # Whoever keeps the rules could not break them either.
    hub.put(key(RUN, "b", "a", "x"), b"forged")
    says(hub, HUB, "b", b"end", stolen)
    assert {what for _, what in stolen.heard} == {b"end"}
    assert asked == [[], [], []]
    assert seen == []
    watch.undeclare()
    token.undeclare()


def test_nodes_beside_a_coordinator_do_not_hear_each_other(site: Site) -> None:
    address, other = free(), free()
    hub = site.opens(HUB, listen=(address,), coordinator=HUB)
    a = site.opens("a", listen=(other,), connect=(address,), coordinator=HUB)
    b = site.opens("b", connect=(address, other), coordinator=HUB)
    rogue = site.rogue("c", other)
    ears = [Ear(a, inbox(RUN, "a"), inbox(RUN, ALL)), Ear(b, inbox(RUN, "b"), inbox(RUN, ALL))]
    until(lambda: linked(b) >= {HUB, "a"} and linked(a) >= {HUB, "b", "c"})
    stolen = Ear(rogue, "**", "vedette/r/to/hub/**")
    says(a, "a", HUB, b"update", Ear(hub, inbox(RUN, HUB)))
    for receiver in ("a", ALL):
        b.put(key(RUN, receiver, "b", "x"), b"no")
        rogue.put(key(RUN, receiver, "c", "x"), b"no")
    says(hub, HUB, "a", b"yes", ears[0])
    says(hub, HUB, "b", b"yes", ears[1])
    assert {what for ear in ears for _, what in ear.heard} == {b"yes"}
    assert stolen.heard == []


def test_nobody_takes_anothers_session(site: Site) -> None:
    """Zenoh takes a second link into a session by the identity it claims; asked for a proof, it takes no stranger's."""
    first, second = free(), free()
    a = site.opens("a", listen=(first,))
    c = site.opens("c", listen=(second,), connect=(first,))
    ear = Ear(c, inbox(RUN, "c"))
    says(a, "a", "c", b"true", ear)
    for links in (1, 2):
        with pytest.raises(zenoh.ZError):
            site.rogue("b", second, id=str(a.zid()), mode="peer", **{"transport/unicast/max_links": links})
    assert linked(c) == {"a"}


def test_whoever_has_no_certificate_of_ours_gets_no_link(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "other"
    keys.init(other)
    keys.add(other, [HUB, "a"])
    address = free()
    hub = site.opens(HUB, listen=(address,), coordinator=HUB)
    bare = {what: value for what, value in TLS(site.plant / "devices" / "a").items() if what == "root_ca_certificate"}
    site.rogue("a", address).close()
    mixed = {**TLS(other / "devices" / "a"), "root_ca_certificate": str(site.plant / "authority.pem")}
    refused: dict[str, dict[str, Any]] = {
        "of another authority": {"transport/link/tls": TLS(other / "devices" / "a")},
        "of another authority, trusting ours": {"transport/link/tls": mixed},
        "none": {"transport/link/tls": {**bare, "verify_name_on_connect": False}},
        "no encryption": {"transport/link/protocols": ["tcp"], "connect/endpoints": [f"tcp/{address}"]},
    }
    for what, entries in refused.items():
        with pytest.raises(zenoh.ZError):
            site.rogue("a", address, **entries)
        until(lambda: linked(hub) == set())
        assert what
    # Nor do we link to a stranger who listens.
    strange = free()
    site.opens(HUB, plant=other, listen=(strange,), coordinator=HUB)
    with pytest.raises(zenoh.ZError):
        site.rogue("a", strange)


def test_a_certificate_that_ends_ends_its_links(site: Site) -> None:
    keys.add(site.plant, ["brief"], days=2 / 86400)
    address = free()
    hub = site.opens(HUB, listen=(address,), coordinator=HUB)
    ear = Ear(hub, inbox(RUN, HUB))
    node = site.opens("brief", connect=(address,), coordinator=HUB, listen=())
    says(node, "brief", HUB, b"in time", ear)
    until(lambda: linked(hub) == set())
    with pytest.raises(zenoh.ZError):
        site.rogue("brief", address)
    with pytest.raises(KeysError, match="holds from"):
        site.opens("brief", connect=(address,))


@pytest.mark.parametrize("star", [True, False], ids=["coordinator", "peers"])
def test_revoked_devices_are_neither_heard_nor_told(site: Site, star: bool) -> None:
    address, coordinator = free(), HUB if star else ""
    keys.revoke(site.plant, "b")
    hub = site.opens(HUB, listen=(address,), coordinator=coordinator)
    a = site.opens("a", connect=(address,), coordinator=coordinator)
    rogue = site.rogue("b", address)
    told, stolen = Ear(hub, inbox(RUN, HUB)), Ear(rogue, inbox(RUN, "b"), inbox(RUN, ALL), "**")
    seen = list[str]()
    watch = hub.liveliness().declare_subscriber(alive(RUN), lambda sample: seen.append(str(sample.key_expr)), history=True)
    token = rogue.liveliness().declare_token(alive(RUN, "b"))
    mine = Ear(a, inbox(RUN, "a"), inbox(RUN, ALL))
    answering(hub, inbox(RUN, HUB), b"state")
    for _ in range(3):
        rogue.put(key(RUN, HUB, "b", "x"), b"revoked")
        assert ask(rogue, key(RUN, HUB, "b", "state")) == []
        hub.put(key(RUN, "b", HUB, "x"), b"secret")
        says(hub, HUB, ALL, b"all", mine)
        says(a, "a", HUB, b"honest", told)
    assert linked(rogue) == {HUB}
    assert {what for _, what in told.heard} == {b"honest"}
    assert (stolen.heard, seen) == ([], [])
    watch.undeclare()
    token.undeclare()
    with pytest.raises(KeysError, match="was revoked"):
        site.opens("b", connect=(address,))


def test_a_lost_coordinator_is_found_again(site: Site) -> None:
    address = free()
    node = site.opens("a", connect=(address,), coordinator=HUB)
    mine = Ear(node, inbox(RUN, "a"))
    for turn in (b"first", b"second", b"third"):
        hub = site.opens(HUB, listen=(address,), coordinator=HUB)
        says(hub, HUB, "a", turn, mine)
        hub.close()
        until(lambda: linked(node) == set())


def test_messages_that_are_too_long_are_dropped(site: Site) -> None:
    address = free()
    hub = site.opens(HUB, listen=(address,), coordinator=HUB, message_bytes=1 << 20)
    ear = Ear(hub, inbox(RUN, HUB))
    node = site.opens("a", connect=(address,), coordinator=HUB, listen=())
    says(node, "a", HUB, b"begin", ear)
    for size in (900_000, 2 << 20, 900_001):
        node.put(key(RUN, HUB, "a", "x"), bytes(size), congestion_control=CongestionControl.BLOCK)
    until(lambda: len(ear.heard[-1][1]) == 900_001)
    assert {len(what) for _, what in ear.heard} == {5, 900_000, 900_001}


def test_without_encryption_only_on_this_machine() -> None:
    address = free()
    a, name = open_session(MeshSettings(insecure=True, name="a", listen=(address,)))
    b, _ = open_session(MeshSettings(insecure=True, name="b", connect=(address,), listen=()))
    with a, b:
        assert name == "a"
        says(b, "b", "a", b"plain", Ear(a, inbox(RUN, "a")))
        assert all(link.src.startswith("tcp/127.0.0.1:") for link in a.info.links())


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "needs the device's credentials"),
        ({"credentials": ".", "insecure": True}, "needs the device's credentials"),
        ({"credentials": ".", "name": "a"}, "as its certificate says"),
        ({"insecure": True, "name": "a", "listen": ["0.0.0.0:7447"]}, "0.0.0.0:7447 is not on loopback"),
        ({"insecure": True, "name": "a", "connect": ["127.0.0.1:1", "hub.example:7447"]}, "hub.example:7447 is not on loopback"),
        ({"insecure": True, "name": "a", "connect": ["[::2]:7447"]}, "not on loopback"),
        ({"credentials": ".", "listen": ["7447"]}, "HOST:PORT"),
        ({"credentials": ".", "listen": ["tcp/127.0.0.1:7447"]}, "HOST:PORT"),
        ({"credentials": ".", "connect": ["a:70000"]}, "HOST:PORT"),
        ({"credentials": ".", "connect": ["a:1?x=y"]}, "HOST:PORT"),
        ({"credentials": ".", "listen": []}, "needs an address"),
        ({"insecure": True, "name": "a/b"}, "cannot be a name"),
        ({"credentials": "nowhere"}, "cannot read nowhere"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(VedetteError) as caught:
        open_session(validated(MeshSettings, settings, "the mesh"))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_taken_address_and_an_unknown_coordinator_are_named(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AddressError, match=f"cannot open the mesh at {address}: .*[Aa]ddress already in use[^/]*$"):
            site.opens("a", listen=(address,))
    with pytest.raises(KeysError, match="no coordinator 'hib'; did you mean 'hub'"):
        site.opens("a", coordinator="hib")

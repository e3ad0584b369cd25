"""Who may say what to whom on the mesh: key expressions, and the access rules that hold devices to them.

Every key says whom it is for and who speaks::

    vedette/RUN/to/RECEIVER/from/SENDER/TOPIC…   an answer, an update, a question (the reply to it comes back under the same key)
    vedette/RUN/to/all/from/SENDER/TOPIC…        for everyone who listens to the sender
    vedette/RUN/alive/NAME                       a liveliness token

Coordinator, node and peer alike: a device reads (subscribes, offers answers) below ``to/ITS-NAME`` and ``to/all`` alone, and speaks below
``from/ITS-NAME`` alone. Each device holds its neighbours to that at both ends of a link, by the name in the certificate of the other end:
what comes in must be said by that name to us, what goes out must be said by us to that name. Whoever is no partner (another node beside a
coordinator, a revoked device, a name nobody knows) is neither heard nor told anything.

What Zenoh does, as `tests/runtimes/test_mesh_session.py` shows:

- A rule matches a key that it includes, not one that it meets: subscribing to ``**``, or a put to ``to/*``, is refused as a whole.
- A refused put, declaration or token vanishes without a word to its sender; a refused question ends at once, with no reply.
- A certificate's name is compared letter by letter, no wildcards: every name must be known when a session opens, and rules stay as they are
  until it is opened anew.
- Rules hold for the two ends of a link: devices must be linked directly, all as peers; behind a router they would all bear its name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from vedette.errors import KeysError

__all__ = ["ALL", "Place", "access", "alive", "check_name", "inbox", "key", "place_of"]

ALL = "all"
"""Whom a message is for that everyone may read."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""A name is one chunk of a key and fits a certificate. It has no dot: Zenoh trusts public authorities too, and their names all have one."""


class Place(NamedTuple):
    """What a key says.

    Attributes
    ----------
    run
        Name of the run.
    receiver
        Whom it is for; `ALL` is everyone.
    sender
        Who speaks.
    topic
        What of, one or more chunks: ``"round/3"``.
    """

    run: str
    receiver: str
    sender: str
    topic: str


def check_name(name: str) -> str:
    """Return the name of a device or run if it can stand in a key and in a certificate.

    Raises
    ------
    KeysError
        It cannot.
    """
    if not NAME.fullmatch(name) or name == ALL:
        raise KeysError(
            f"'{name}' cannot be a name: use 1 to 63 letters, digits, '-' and '_', beginning with a letter or digit; not '{ALL}'"
        )
    return name


def key(run: str, receiver: str, sender: str, topic: str) -> str:
    """Return the key under which `sender` says something to `receiver`."""
    return f"vedette/{run}/to/{receiver}/from/{sender}/{topic}"


def inbox(run: str, receiver: str) -> str:
    """Return what `receiver` (a device, or `ALL`) reads, whoever speaks."""
    return key(run, receiver, "*", "**")


def alive(run: str, name: str = "*") -> str:
    """Return the key of a device's liveliness token, or of everyone's."""
    return f"vedette/{run}/alive/{name}"


def place_of(key: str) -> Place | None:
    """Take a key apart; None if it is none of a message."""
    match key.split("/"):
        case ["vedette", run, "to", receiver, "from", sender, *topic] if topic:
            return Place(run, receiver, sender, "/".join(topic))
    return None


def access(me: str, partners: Collection[str]) -> dict[str, Any]:
    """Return Zenoh's access rules of a device.

    Parameters
    ----------
    me
        Its name.
    partners
        Those it hears and tells.
    """
    rules, subjects, policies = [], [], []
    for partner in partners:
        spoken = [*_speech("ingress", partner, me), *_speech("egress", me, partner)]
        names = [f"{partner} {place}" for place in range(len(spoken))]
        rules += [{"id": name, "permission": "allow", **rule} for name, rule in zip(names, spoken, strict=True)]
        subjects.append({"id": partner, "cert_common_names": [partner]})
        policies.append({"rules": names, "subjects": [partner]})
    return {"enabled": True, "default_permission": "deny", "rules": rules, "subjects": subjects, "policies": policies}


def _speech(flow: str, speaker: str, listener: str) -> Iterator[dict[str, Any]]:
    """Yield what a speaker may send a listener."""
    said = [key("*", receiver, speaker, "**") for receiver in (listener, ALL)]
    allowed = {
        ("put", "query"): said,
        ("reply",): [key("*", speaker, listener, "**")],
        ("declare_subscriber", "declare_queryable"): [f"vedette/*/to/{receiver}/**" for receiver in (speaker, ALL)],
        ("liveliness_token",): [alive("*", speaker)],
        ("declare_liveliness_subscriber", "liveliness_query"): [alive("*")],
    }
    for messages, keys in allowed.items():
        yield {"flows": [flow], "messages": messages, "key_exprs": keys}

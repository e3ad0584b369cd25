"""What a response may do: publish a command, post an event, run a program."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import quote

from pydantic import Field, field_validator

from vedette.edge.broker import Broker, Publication, Publisher
from vedette.edge.events import Event
from vedette.edge.sinks.base import Unaccepted
from vedette.edge.sinks.webhook import CloudEvents
from vedette.errors import RecipeError
from vedette.registry import Registry
from vedette.settings import Settings, named

__all__ = ["ACTIONS", "Action", "AnyAction", "Call", "Deed", "Publish", "Run", "filled"]

ACTIONS: Registry[type[Action]] = Registry("action")

FIELDS = (*Event.model_fields, "severity")

_FIELD = re.compile(r"\{(\w+)\}")


def filled(template: str, event: Event, written: Callable[[str], str] = str) -> str:
    """Put an event's fields into a template.

    Parameters
    ----------
    template
        Text with ``{device}``, ``{score}`` and the like; nothing else in it means anything.
    event
        Whose.
    written
        How a value is written there, so that it cannot be more than a value.
    """

    def value(match: re.Match[str]) -> str:
        found = getattr(event, match[1])
        return written("; ".join(found) if isinstance(found, tuple) else "" if found is None else str(found))

    return _FIELD.sub(value, template)


def _known(template: str) -> str:
    for name in _FIELD.findall(template):
        if name not in FIELDS:
            raise ValueError(f"'{{{name}}}' is no field of an event; there are {', '.join(FIELDS)}")
    return template


class Deed(ABC):
    """An action that is ready to be done; used by one thread.

    Attributes
    ----------
    repeatable
        Whether it may be done a second time where nobody knows whether it was done: whoever is told sees by the event's id that it was.
    """

    repeatable = True

    @abstractmethod
    def do(self, event: Event) -> str:
        """Do it; returns what came of it, in a few words.

        Raises
        ------
        Unaccepted
            It could not be done.
        """

    def close(self) -> None:  # noqa: B027
        """Let go of what is open."""


class Action(Settings, ABC):
    """Base of actions: the fields are settings."""

    @abstractmethod
    def ready(self, allowed: Collection[Path], name: str) -> Deed:
        """Make it ready.

        Parameters
        ----------
        allowed
            Programs that may be run.
        name
            Of the rule that it belongs to.

        Raises
        ------
        VedetteError
            It cannot work, and waiting would not help.
        """

    @abstractmethod
    def said(self, event: Event) -> str:
        """Say what would be done."""


@ACTIONS.register("publish")
class Publish(Broker, Action):
    """Publishes a command to an MQTT broker, with QoS 1.

    Parameters
    ----------
    topic
        With fields of the event: ``"plant/{device}/stop"``; they are %-encoded.
    payload
        With fields of the event, written as within a JSON string; "" for the whole event as JSON.
    """

    topic: str = Field(min_length=1)
    payload: str = ""

    _templates = field_validator("topic", "payload")(_known)

    def ready(self, allowed: Collection[Path], name: str) -> Deed:
        return _Publishing(self, name)

    def said(self, event: Event) -> str:
        return f"publish to {filled(self.topic, event, lambda value: quote(value, safe=''))}"


class _Publishing(Deed):
    def __init__(self, action: Publish, name: str) -> None:
        self.action, self.publisher = action, Publisher(action, f"vedette-response-{quote(name, safe='')}")

    def do(self, event: Event) -> str:
        topic = filled(self.action.topic, event, lambda value: quote(value, safe=""))
        said = filled(self.action.payload, event, lambda value: json.dumps(value)[1:-1]) or json.dumps(event.said())
        self.publisher.publish([Publication(topic, said.encode())])
        return "taken by the broker"

    def close(self) -> None:
        self.publisher.close()


@ACTIONS.register("call")
class Call(CloudEvents, Action):
    """Posts the event to a web address, as the sink ``webhook`` does."""

    def ready(self, allowed: Collection[Path], name: str) -> Deed:
        return _Calling(self)

    def said(self, event: Event) -> str:
        return f"post to {self.url}"


class _Calling(Deed):
    def __init__(self, action: Call) -> None:
        self.poster = action.ready_to_post()

    def do(self, event: Event) -> str:
        self.poster.post(event)
        return "accepted"

    def close(self) -> None:
        self.poster.close()


@ACTIONS.register("run")
class Run(Action):
    """Runs a program, without a shell and with next to no environment; the event is its standard input, as JSON.

    Parameters
    ----------
    program
        Its whole path, which must be among those allowed.
    arguments
        Each is one argument, whatever stands in the fields of the event: ``"--device={device}"``.
    limit
        Seconds after which it is killed, with all that it started.
    """

    program: Path
    arguments: tuple[str, ...] = ()
    limit: float = Field(10.0, gt=0, le=3600)

    @field_validator("arguments")
    @classmethod
    def _templates(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_known(one) for one in arguments)

    def ready(self, allowed: Collection[Path], name: str) -> Deed:
        if self.program not in allowed:
            raise RecipeError(f"rule '{name}': {self.program} is none of the programs that are allowed (allow = [...])")
        return _Running(self, name)

    def said(self, event: Event) -> str:
        return f"run {[str(self.program), *(filled(one, event) for one in self.arguments)]}"


class _Running(Deed):
    repeatable = False

    def __init__(self, action: Run, name: str) -> None:
        self.action = action
        if why := _unfit(action.program):
            raise RecipeError(f"rule '{name}': {action.program} {why}")

    def do(self, event: Event) -> str:
        if why := _unfit(self.action.program):
            raise Unaccepted(f"{self.action.program} {why}", lasting=True)
        arguments = [filled(template, event) for template in self.action.arguments]
        for template, one in zip(self.action.arguments, arguments, strict=True):
            # What devices call themselves comes from outside, and must not become an option.
            if "\0" in one or (template.startswith("{") and one.startswith("-")):
                raise Unaccepted(f"{one!r:.80} would be more than a value to {self.action.program.name}", lasting=True)
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    [str(self.action.program), *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    cwd="/",
                    env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                    start_new_session=True,
                )
            except OSError as error:
                raise Unaccepted(f"{self.action.program}: {error.strerror or error}", lasting=True) from None
            try:
                process.communicate(json.dumps(event.said()).encode(), timeout=self.action.limit)
            except subprocess.TimeoutExpired:
                raise Unaccepted(f"killed after {self.action.limit:g} s", lasting=True) from None
            finally:
                # Its own group: what it left behind goes with it where it was too slow.
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.communicate()
            if process.returncode:
                errors.seek(0)
                said = errors.read(300).decode(errors="replace").strip()
                raise Unaccepted(f"status {process.returncode}{f': {said}' if said else ''}", lasting=True)
        return "status 0"


def _unfit(program: Path) -> str:
    """Say why a program must not be run; "" if it may be."""
    try:
        found = program.stat()
    except OSError as error:
        return error.strerror or str(error)
    if not program.is_absolute() or not stat.S_ISREG(found.st_mode) or not os.access(program, os.X_OK):
        return "is no program by its whole path"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or found.st_uid not in (0, os.geteuid()):
        return "can be changed by others: it must be yours or root's, and writable by its owner alone"
    return ""


AnyAction: TypeAlias = Annotated[Action, *named(ACTIONS)]

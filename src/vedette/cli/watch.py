"""`vedette watch`: score a live source and tell of incidents."""

from __future__ import annotations

import gc
import json
import signal
import threading
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

from vedette.cli.mesh import Format, Quiet
from vedette.cli.metrics import Metrics

if TYPE_CHECKING:
    from vedette.edge.watch import Watch

__all__ = ["source_of", "watch"]


def watch(
    bundle: Annotated[
        str | None,
        typer.Argument(
            help="Folder with detector.json, or its web address; without one each device is watched by a model of its own last readings."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="WHAT",
            help="host; mqtt[s]://[USER@]HOST[:PORT]/TOPIC; a .csv, .parquet or .jsonl file; - (JSON lines); eve.json; otlp[s]://HOST:PORT.",
        ),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--config", help="Settings (TOML): source, format, calibration, incidents, sinks, responses.")
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; repeatable.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where its state is kept; begun again there it goes on where it was.")] = Path(
        "runs/watch"
    ),
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="Stop after so long.")] = None,
    metrics: Metrics = None,
    as_json: Annotated[bool, typer.Option("--json", help="Events as JSON lines on stdout, in place of the sinks of the settings.")] = False,
    log: Format = "text",
    quiet: Quiet = False,
) -> None:
    """Watch devices live: score what they send, follow their drift, and tell of incidents.

    Example: vedette watch runs/demo/detectors/federated/fleet --source mqtt://127.0.0.1/plant/{device}/telemetry
    """
    from vedette.cli.live import drawing, is_drawn
    from vedette.cli.mesh import log_to_terminal
    from vedette.cli.watched import view
    from vedette.edge.agent import Agent

    remote = bundle is not None and "://" in bundle
    at = [f"bundle.url={json.dumps(bundle)}"] if remote else []
    told = settings_of(settings, source, [*at, *(changes or []), *(['sinks=[{name="stdout",form="json"}]'] if as_json else [])])
    log_to_terminal(log)
    agent = Agent(told, out, None if bundle is None or remote else Path(bundle))
    stop = threading.Event()
    with ExitStack() as stack:
        stack.callback(agent.close)
        for number in (signal.SIGTERM, signal.SIGINT):
            # What is under way is stored whole before it stops.
            before = signal.signal(number, lambda *_: stop.set())
            stack.callback(signal.signal, number, before)
        if seconds is not None:
            timer = threading.Timer(seconds, stop.set)
            timer.start()
            stack.callback(timer.cancel)
        if metrics is not None:
            from vedette.cli.metrics import serving
            from vedette.edge.prometheus import EdgeCollector

            stack.enter_context(serving(metrics, EdgeCollector(agent)))
        if is_drawn(quiet or as_json):
            stack.enter_context(drawing(lambda width, passed: view(agent.status, width, passed)))
        # What there is now stays for good; to look through it for garbage took 19 ms, in which nothing was scored.
        gc.freeze()
        stack.callback(gc.unfreeze)
        agent.run(stop)
        status = agent.status
    if not as_json:
        counts = {"reading": status.readings, "device": status.devices, "incident": status.told.get("opened", 0)}
        readings, devices, incidents = (f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in counts.items())
        # The log tells of each kind once a minute, which here may be never again.
        wrong = ", ".join(f"{kind} {count:,}" for kind, count in sorted(status.wrong.items()))
        typer.echo(f"{readings} of {devices}; {incidents}; {f'not as it should be: {wrong}; ' if wrong else ''}state in {out}")


def settings_of(path: Path | None, source: str | None, changes: list[str]) -> Watch:
    """Return what to do: a file's settings, the source said in short, and changes, each over the one before.

    Raises
    ------
    DataMissing
        There is no such file.
    RecipeError, UnknownName
        It is no TOML, or says something impossible.
    """
    from vedette.edge.watch import Watch
    from vedette.errors import DataMissing, RecipeError
    from vedette.settings import assign, assignments, validated

    values: dict[str, Any] = {}
    where = "settings" if path is None else str(path)
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataMissing(f"cannot read {path}: {error.strerror or error}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path} is no TOML: {error}") from None
    if source is not None:
        values["source"] = source_of(source)
    for key, value in assignments(changes, "calibration.incidents=1"):
        assign(Watch, values, key, value, where)
    if "source" not in values:
        raise RecipeError("nothing to watch: say --source, such as --source host, or write [source] into --config")
    return validated(Watch, values, where)


def source_of(text: str) -> dict[str, Any]:
    """Return the settings of a source that was said in short.

    Raises
    ------
    RecipeError
        Nobody knows what is meant.
    """
    from vedette.edge.sources.base import SOURCES
    from vedette.errors import RecipeError

    kind, mark, rest = text.partition("://")
    if not mark:
        path = Path(text)
        if text in SOURCES:
            return {"name": text}
        if path.name == "eve.json":
            return {"name": "eve", "path": text}
        if path.suffix in (".csv", ".parquet"):
            return {"name": "replay", "files": (text,)}
        if text == "-" or path.suffix in (".jsonl", ".ndjson", ".json"):
            return {"name": "lines", "path": text}
    elif kind in ("otlp", "otlps") and rest:
        return {"name": "otlp", "address": rest.strip("/")}
    elif kind in ("mqtt", "mqtts"):
        # Topics have signs of their own: #, +, and braces around what a level names.
        place, _, topic = rest.partition("/")
        try:
            parts = urlsplit(f"//{place}")
            port = parts.port
        except ValueError:
            raise RecipeError(f"'{text}': no such port") from None
        if parts.password is not None:
            raise RecipeError("a password on the command line is seen by everybody: write it into a file (source.password_file)")
        if topic and parts.hostname:
            found: dict[str, Any] = {"name": "mqtt", "host": parts.hostname, "topics": (topic,), "tls": kind == "mqtts"}
            return found | ({"port": port} if port else {}) | ({"user": unquote(parts.username)} if parts.username else {})
    raise RecipeError(
        f"no source '{text}': say host, mqtt://HOST/TOPIC, a .csv, .parquet or .jsonl file, - for JSON lines, eve.json, or otlp://HOST:PORT"
    )

"""The option `--metrics`: what goes on in a process, for Prometheus."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from vedette.errors import AddressError, RecipeError

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

__all__ = ["Metrics", "serving"]

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"

Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="[HOST:]PORT",
        help="Serve /metrics to Prometheus, in plain HTTP and to whoever asks: on loopback, unless a host is said (0.0.0.0: on all).",
    ),
]


@contextmanager
def serving(where: str, collector: Collector) -> Iterator[str]:
    """Serve metrics in a thread of its own; yields their URL.

    Parameters
    ----------
    where
        ``[HOST:]PORT``; port 0 is any that is free, and the log says which.
    collector
        Makes them whenever they are asked for.

    Raises
    ------
    RecipeError
        No such address.
    AddressError
        It is taken or not this machine's.
    """
    from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    host, _, port = where.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise RecipeError(f"--metrics takes [HOST:]PORT, such as 9464 or 0.0.0.0:9464 (got '{where}')")
    host = host.strip("[]") or LOOPBACK
    try:
        server, thread = start_http_server(int(port), host, registry)
    except OSError as error:
        raise AddressError(f"cannot serve metrics at {where} ({error.strerror}): say another --metrics [HOST:]PORT") from None
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{server.server_port}/metrics"
    log.info("metrics are served", extra={"url": url})
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""`vedette worker`: lend this machine to a cluster run."""

from __future__ import annotations

import os
import socket
import sys
from typing import Annotated

import typer

__all__ = ["worker"]

CONNECT = 10.0
"""Seconds in which the head of a cluster must answer."""


def worker(
    ray: Annotated[str, typer.Option("--ray", metavar="HOST:PORT", help="Head of the Ray cluster: where 'ray start --head' ran.")],
    cores: Annotated[int, typer.Option("--cores", min=0, help="How many of this machine's cores; 0: all.")] = 0,
) -> None:
    """Join a Ray cluster and lend it this machine's cores until stopped (Ctrl-C); no data and no model need to be here.

    Example: vedette worker --ray 192.168.1.10:6379 --cores 4
    """
    from vedette.errors import RecipeError
    from vedette.runtimes.cluster.rays import needs_ray

    needs_ray()
    host, _, port = ray.rpartition(":")
    if not host or not port.isdigit():
        raise RecipeError(f"--ray takes HOST:PORT of the cluster's head, such as 192.168.1.10:6379 (got '{ray}')")
    try:
        socket.create_connection((host, int(port)), CONNECT).close()
    except (OSError, OverflowError) as error:
        raise RecipeError(f"nobody answers at {ray} ({error}); 'ray start --head' begins a cluster there") from None
    chosen = [f"--num-cpus={cores}"] if cores else []
    # This process becomes Ray's, so that whoever stops it stops that.
    os.execv(sys.executable, [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={ray}", "--block", *chosen])

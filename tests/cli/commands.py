"""Runs the command line, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from vedette.cli import main


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def environment() -> dict[str, str]:
    """This process's environment without a data root."""
    return {key: value for key, value in os.environ.items() if key != "VEDETTE_DATA"}


def vedette(*arguments: str | Path) -> Ended:
    """Run a command here, as `main` does in a process of its own."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    argv = mock.patch.object(sys, "argv", ["vedette", *map(str, arguments)])
    with argv, mock.patch.dict(os.environ, environment(), clear=True), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return Ended(int(code or 0), out.getvalue(), err.getvalue())  # type: ignore[call-overload]


def spawned(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    command = [sys.executable, "-m", "vedette", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def refused(*arguments: str | Path) -> str:
    """Run a command that a user got wrong; return its one line."""
    done = vedette(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("vedette: ")
    return lines[0]

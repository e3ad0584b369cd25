"""What the commands of the mesh log: lines for people, JSON for machines, and a page that says what may stand in them."""

from __future__ import annotations

import ast
import json
import logging
import re
from datetime import datetime
from pathlib import Path

import vedette
from vedette.cli.mesh import _Lines
from vedette.runtimes.base import Round
from vedette.runtimes.mesh.prometheus import MeshCollector
from vedette.runtimes.mesh.status import Status, Tally

PACKAGE = Path(vedette.__file__).parent
SOURCES = [*(PACKAGE / "runtimes" / "mesh").glob("*.py"), PACKAGE / "cli" / "mesh.py", PACKAGE / "cli" / "metrics.py"]


def line(as_json: bool, said: str, **more: object) -> str:
    record = logging.makeLogRecord({"msg": said, "levelno": logging.WARNING, "levelname": "WARNING", **more})
    return _Lines(as_json).format(record)


def test_json_has_a_time_that_every_reader_knows_and_lists_as_lists() -> None:
    found = json.loads(line(True, "deadline over", missing=["pump-1", "pump-2"]))
    assert list(found) == ["time", "level", "message", "missing"]
    assert (found["level"], found["message"], found["missing"]) == ("warning", "deadline over", ["pump-1", "pump-2"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", found["time"])
    assert abs(datetime.fromisoformat(found["time"]).timestamp() - datetime.now().timestamp()) < 60


def test_text_is_one_line_whatever_others_say() -> None:
    reason = "no such thing\n2026-01-01 info all is well\x1b[2J"
    found = line(False, "message refused", node="pump-1", reason=reason)
    assert found.endswith(r"warning message refused: node pump-1, reason no such thing\n2026-01-01 info all is well\x1b[2J")
    assert line(False, "deadline over", missing=["a", "b"]).endswith(" deadline over: missing a, b")
    assert json.loads(line(True, "message refused", reason=reason))["reason"] == reason


def logged() -> dict[str, set[str]]:
    """Return each message that is logged on the mesh, and the names of what belongs to it."""
    found = dict[str, set[str]]()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "log"):
                continue
            extra = next((word.value for word in node.keywords if word.arg == "extra"), ast.Dict([], []))
            fields = {ast.literal_eval(key) for key in extra.keys} if isinstance(extra, ast.Dict) else set()
            arguments = node.args[1:] if node.func.attr == "log" else node.args
            for said in re.findall(r"'([^']+)'", ast.unparse(arguments[0])):
                found.setdefault(said, set()).update(fields)
    return found


def test_the_page_says_every_message_and_its_fields() -> None:
    page = (PACKAGE.parent.parent / "docs" / "deployment.md").read_text().partition("## To see what goes on")[2]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in page.splitlines() if row.startswith("| `")]
    told = {said: set(re.findall(r"`(\w+)`", row[1])) for row in rows for said in re.findall(r"`([^`]+)`", row[0])}
    messages = logged()
    assert len(messages) > 10
    assert messages.pop("round over") == set() < told["round over"] <= set(Round._fields)
    for said, fields in messages.items():
        assert told.get(said) == fields, said


def test_the_page_names_all_that_prometheus_is_told() -> None:
    page = (PACKAGE.parent.parent / "docs" / "deployment.md").read_text()
    endings = {"counter": "_total", "info": "_info"}
    for family in MeshCollector(lambda: Status("coordinator", "coordinator", "fleet", "", (), Tally())).collect():
        assert f"`{family.name}{endings.get(family.type, '')}" in page

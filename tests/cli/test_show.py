"""What people see while they wait."""

from __future__ import annotations

from typing import Any

import pytest

from vedette.cli import show


class Bar:
    """Remembers what is shown."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.updates = 0

    def add_task(self, text: str, **shown: Any) -> int:
        self.seen.update(shown, description=text)
        return 0

    def reset(self, task: int, **shown: Any) -> None:
        self.seen.update(shown, completed=0)

    def update(self, task: int, **shown: Any) -> None:
        self.updates += 1
        self.seen.update(shown)


@pytest.mark.parametrize(
    ("of", "seconds", "visible", "speed"),
    [
        (100_000, 0.001, True, "500 of 100,000 nodes, 1,000 a second"),
        (1_000, 0.001, False, "500 of 1,000 nodes, 1,000 a second"),
        (1_000, 0.5, True, "500 of 1,000 nodes, 2 a second"),
        (1_000, 4.0, True, "500 of 1,000 nodes, 4.0 s each"),
    ],
)
def test_nodes_are_counted_where_a_round_takes_its_time(
    monkeypatch: pytest.MonkeyPatch, of: int, seconds: float, visible: bool, speed: str
) -> None:
    now = 100.0
    monkeypatch.setattr(show.time, "monotonic", lambda: now)
    bar = Bar()
    nodes = show._Nodes(bar)  # type: ignore[arg-type]
    assert not bar.seen["visible"]
    for done in range(501):
        nodes(done, of)
        now += seconds if done < 500 else 0
    assert bar.updates <= 500 * seconds / show.EVERY + 1, "more often than anybody looks"
    now += show.EVERY - 1e-9
    before = bar.updates
    nodes(500, of)
    now += show.EVERY
    monkeypatch.setattr(nodes, "begin", now - 500 * seconds)
    nodes(500, of)
    assert bar.updates > before
    assert (bar.seen["visible"], bar.seen["description"], bar.seen["completed"]) == (visible, speed, 500)
    assert bar.seen["total"] == of

"""Clusters with a chain: each has a secure sum, noise and a reference of its own, and all of a round is one release."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.detectors.autoencoder import Autoencoder
from vedette.errors import RecipeError
from vedette.message import Memory, Message, Vector
from vedette.runtimes.base import Outcome, Round, plan_of, stages_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.privacy import cost_of, spent_after
from vedette.seeds import stream
from vedette.settings import build
from vedette.strategies import Clustered, FedAvg
from vedette.strategies.base import STRATEGIES, First, Strategy, Turn
from vedette.strategies.chain.chained import chained, plain
from vedette.strategies.chain.privacy import releases_of
from vedette.strategies.view import Answers
from vedette.training.accounting import Release, epsilon_of, noise_for
from vedette.training.task import Optimiser

DENSE = Autoencoder(hidden=(4, 2), scaling=Scaling(numbers="standard"), optimiser=Optimiser(rate=0.01, batch=32))
FLEET = Fleet.of({f"{kind}-{place}": correlated(60 + place, 5, place) for kind in ("pump", "valve") for place in range(4)})
KINDS = {"name": "given", "clusters": {"pumps": ["pump-*"], "others": ["*"]}}
CLIP: dict[str, Any] = {"name": "clip", "norm": 1e6}
NOISE: dict[str, Any] = {"name": "noise", "secret": False}


def ran(strategy: Strategy, detector: Any = DENSE, seed: int = 7) -> Outcome:
    return LocalRuntime(FLEET).run(plan_of(detector, strategy, seed))


def moved(outcome: Outcome, node: str, before: Outcome) -> Any:
    return np.asarray(outcome.memories[node]["network.model"]) - np.asarray(before.memories[node]["network.model"])


def groups_of(outcome: Outcome, round: int) -> Mapping[str, list[str]]:
    found: Mapping[str, list[str]] = json.loads(str(outcome.exchanged["rounds"]["*"][f"groups.{round}"]))
    return found


@pytest.mark.parametrize("link", [CLIP, "mask", {"name": "compress", "values": "float32"}], ids=["clip", "mask", "compress"])
def test_a_link_that_takes_nothing_away_changes_nothing_in_clusters(link: Any) -> None:
    """One round together, three apart: each cluster's secure sum is its plain sum, to the step of the fixed point."""
    settings: dict[str, Any] = {"rounds": 4, "by": KINDS, "after": 1, "every": 2, "strategy": FedAvg(momentum=0.5)}
    without, within = ran(Clustered(**settings)), ran(Clustered(**settings, chain=(link,)))
    assert groups_of(within, 1) == {"pumps": [f"pump-{i}" for i in range(4)], "others": [f"valve-{i}" for i in range(4)]}
    assert moved(without, "pump-0", without).shape == moved(within, "valve-0", without).shape
    for node, memory in without.memories.items():
        assert memory.keys() == within.memories[node].keys(), "the chain leaves nothing in a memory"
        np.testing.assert_allclose(within.memories[node]["network.model"], memory["network.model"], atol=1e-6)


def test_by_weights_groups_are_those_without_a_chain() -> None:
    settings: dict[str, Any] = {"rounds": 3, "by": {"name": "weights", "clusters": 2}, "every": 1}
    without, within = ran(Clustered(**settings)), ran(Clustered(**settings, chain=({"name": "compress", "values": "float32"},)))
    assert [groups_of(within, round) for round in (1, 2)] == [groups_of(without, round) for round in (1, 2)]


def test_masks_cover_nodes_that_change_their_cluster() -> None:
    """Noise on what nodes tell throws groups about; masked or not, all of a group set out from the same."""
    by = {"name": "rows", "clusters": 2, "noise": 0.1, "secret": False}
    plain_sums, secure = (ran(Clustered(rounds=4, by=by, after=1, every=1, chain=chain), seed=10) for chain in ((CLIP,), (CLIP, "mask")))
    found = [groups_of(secure, round) for round in (1, 2, 3)]
    assert found == [groups_of(plain_sums, round) for round in (1, 2, 3)]
    assert all(len(members) >= 3 for groups in found for members in groups.values()), "none was too small for a secure sum"
    assert len({json.dumps(sorted(groups.values())) for groups in found}) == 3
    for node, memory in plain_sums.memories.items():
        np.testing.assert_allclose(secure.memories[node]["network.model"], memory["network.model"], atol=1e-6)


def turn(round: int, phase: str = "train") -> Turn:
    first = {"model": First(Vector(np.zeros(1, dtype=np.float32), "x"), [(1,)]), "norms": First(Vector(np.zeros(0, np.float32), "y"), [])}
    return Turn(round, phase, tuple("abcdef"), {}, lambda: stream(round), seed=7, candidates=6, first=lambda: first)


def heard(strategy: Strategy, sent: Mapping[str, Message], groups: Mapping[str, str]) -> Answers:
    view = Answers(strategy.channels, groups)
    for node in sorted(sent):
        view.add(node, sent[node])
    return view


def changed(by: float) -> Message:
    return Message({"model": Vector(np.array([by], np.float32), "x"), "norms": Vector(np.zeros(0, np.float32), "y")}, facts={"rows": 1.0})


def test_who_comes_together_sets_out_from_the_mean() -> None:
    """a, b, c are at 2, d, e, f at 8; then a, b and d are a group: two at 2 and one at 8 begin at 4, and their change counts from there."""
    strategy = chained(Clustered(by={"name": "rows", "clusters": 2}, after=0, every=2, rounds=4, chain=({"name": "clip", "norm": 10.0},)))

    def grouped(round: int, low: str, ours: Memory) -> Any:
        told = {node: Message(tables={"summary": np.array([0.0 if node in low else 1.0])}) for node in "abcdef"}
        return strategy.exchange(turn(round, "summarise"), heard(strategy, told, {}), ours)

    first = grouped(0, "abc", {})
    assert first.messages is None, "all were sent the same"
    learned = strategy.exchange(
        turn(1), heard(strategy, {node: changed(2.0 if node in "abc" else 8.0) for node in "abcdef"}, first.groups), first.memory
    )
    again = grouped(2, "abd", learned.memory)
    at = {node: float(again.messages[node].vectors["model"].values[0]) for node in "abcdef"}
    assert at == pytest.approx(dict.fromkeys("abd", 4.0) | dict.fromkeys("cef", 6.0))
    # Of the second nobody is heard: it stays where it was.
    end = strategy.exchange(turn(2), heard(strategy, dict.fromkeys("abd", changed(1.0)), again.groups), again.memory)
    at = {node: float(end.messages[node].vectors["model"].values[0]) for node in "abcdef"}
    assert at == pytest.approx(dict.fromkeys("abd", 5.0) | dict.fromkeys("cef", 6.0))
    stays = grouped(2, "abd", end.memory)
    assert stays.messages is None, "all of a cluster have been sent the same already"


@pytest.mark.parametrize("added", ["coordinator", "node", "shares"])
def test_each_cluster_has_noise_of_its_own_as_strong_as_said(added: str) -> None:
    """In the sum of four it is z · C, so a fourth of it in their mean; one of four may vanish, whose part the others make up for."""
    chain: tuple[Any, ...] = ({"name": "clip", "norm": 1e-3}, {**NOISE, "multiplier": 400.0, "added": added})
    chain += ("mask",) if added == "shares" else ()
    wide = DENSE.model_copy(update={"hidden": (64, 32)})
    noised, still = (ran(Clustered(rounds=rounds, by=KINDS, after=0, chain=chain), wide) for rounds in (1, 0))
    pumps, valves = (moved(noised, node, still) for node in ("pump-0", "valve-0"))
    expected = 400 * 1e-3 / 4 * {"coordinator": 1.0, "node": 2.0, "shares": np.sqrt(4 / 3)}[added]
    assert pumps.std() == pytest.approx(expected, rel=0.05)
    assert valves.std() == pytest.approx(expected, rel=0.05)
    assert abs(np.corrcoef(pumps, valves)[0, 1]) < 0.05


def test_a_cluster_too_small_for_a_secure_sum_learns_with_the_largest(caplog: pytest.LogCaptureFixture) -> None:
    by = {"name": "given", "clusters": {"pair": ["pump-0", "pump-1"], "others": ["*"]}}
    small = ran(Clustered(rounds=2, by=by, after=0, chain=("mask",)))
    assert groups_of(small, 0) == {"others": sorted(FLEET)}
    (record,) = (record for record in caplog.records if record.getMessage() == "cluster too small")
    assert record.nodes == ["pump-0", "pump-1"]  # type: ignore[attr-defined]
    assert "no secure sum of 2 nodes" in record.reason  # type: ignore[attr-defined]
    together = ran(FedAvg(rounds=2))
    for node in FLEET:
        assert np.abs(moved(small, node, together)).max() < 1e-6


def test_a_run_that_is_resumed_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    chain = ({"name": "clip", "norm": 0.5}, {**NOISE, "multiplier": 0.1}, {"name": "compress", "top": 0.5})
    plan = plan_of(DENSE, Clustered(rounds=4, by=KINDS, after=1, every=1, chain=chain), 7)

    def stops(entry: Round, _: Any) -> None:
        if (entry.stage, entry.number) == ("rounds", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalRuntime(FLEET, checkpoint=tmp_path / "state").run(plan, stops)
    resumed = LocalRuntime(FLEET, checkpoint=tmp_path / "state", resume=True).run(plan)
    whole = LocalRuntime(FLEET).run(plan)
    for node, memory in whole.memories.items():
        np.testing.assert_array_equal(resumed.memories[node]["network.model"], memory["network.model"])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"by": "weights", "chain": ["mask"]}, "lays open how training moved each node's network, which 'mask' is there to hide"),
        ({"by": "weights", "chain": ["clip", "noise"]}, "which 'noise' is there to hide"),
        ({"by": "loss", "chain": ["mask"]}, "lays open which model fits each node's rows"),
        ({"by": "loss", "chain": ["clip"]}, "sends nodes several models, and a chain counts from one"),
    ],
)
def test_groupings_that_would_undo_the_chain_are_refused(settings: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        build(STRATEGIES, {"name": "clustered", **settings}, "[strategy]")


def test_what_averages_is_asked_whether_the_chain_fits() -> None:
    with pytest.raises(RecipeError, match="to take a median"):
        plan_of(DENSE, Clustered(strategy=FedAvg(aggregator="median"), chain=("mask",)), 7)


# A budget.


def private(by: Any, **more: Any) -> Clustered:
    chain = ({"name": "clip", "norm": 1.0}, NOISE)
    return Clustered(rounds=6, by=by, after=1, every=2, chain=chain, privacy={"epsilon": 8.0, **more})


def test_all_clusters_of_a_round_are_one_release() -> None:
    """Each node is in one of them: that they are several costs nothing, and grouping by names neither."""
    given, together = (
        plan_of(DENSE, each, 7)["stages"][1]["strategy"]
        for each in (private(KINDS), FedAvg(rounds=6, chain=private(KINDS).chain, privacy=private(KINDS).privacy))
    )
    assert given["chain"] == together["chain"]
    strategy = Clustered(rounds=6, by=KINDS, chain=(CLIP, {**NOISE, "multiplier": 3.0}))
    assert releases_of(strategy) == releases_of(chained(strategy)) == [Release(3.0, 6)]
    assert plain(chained(strategy)) == strategy


@pytest.mark.parametrize("group", [0.2, 0.4])
def test_what_nodes_are_grouped_by_is_charged(group: float) -> None:
    """Three groupings in six rounds cost their share; what is spent after a round counts the groupings up to it."""
    outcome = ran(private("rows", group=group))
    strategies = [plain(stage.strategy) for stage in stages_of(plan_of(DENSE, private("rows", group=group), 7))[1]]
    grouped = strategies[1]
    assert isinstance(grouped, Clustered)
    noise, whole = grouped.by.model_dump()["noise"], noise_for(8.0, 1e-5)
    assert 3 / noise**2 == pytest.approx(group / whole**2)
    multiplier = grouped.chain[1].model_dump()["multiplier"]
    before = releases_of(strategies[0])
    assert releases_of(grouped) == [Release(multiplier, 6), Release(noise, 3)]
    assert spent_after(strategies, 1, 2, 1e-5) == epsilon_of([*before, Release(multiplier, 2), Release(noise, 1)], 1e-5)
    assert [entry.epsilon for entry in outcome.history][1:3] == [spent_after(strategies, 1, rounds, 1e-5) for rounds in (1, 2)]
    assert outcome.history[-1].epsilon == pytest.approx(8.0, rel=2e-3)
    assert outcome.history[-1].epsilon <= 8.0


def test_a_grouping_without_noise_or_with_noise_that_others_know_has_no_bound() -> None:
    chain = (CLIP, {"name": "noise", "multiplier": 5.0})

    def cost(**by: Any) -> float:
        return cost_of([Clustered(rounds=2, by=by, chain=chain)], 1e-5)

    assert cost(name="rows") == math.inf
    assert cost(name="rows", noise=5.0, secret=False) == math.inf
    assert cost(name="rows", noise=5.0) == epsilon_of([Release(5.0, 3)], 1e-5)
    assert cost(**KINDS) == epsilon_of([Release(5.0, 2)], 1e-5)

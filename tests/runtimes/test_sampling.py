"""Rounds in which a share of the nodes take part, and nodes that keep no network of their own."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.detectors.autoencoder import Autoencoder
from vedette.runtimes.base import plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.topology import Full, Ring
from vedette.strategies.fedavg import FedAvg
from vedette.strategies.gossip import GossipFedAvg
from vedette.training.task import Optimiser

NODES = 10
DETECTOR = Autoencoder(hidden=(3,), optimiser=Optimiser(rate=0.01, batch=16))


@pytest.fixture
def many() -> Fleet:
    return Fleet.of({f"n{place}": correlated(50 + place, 5, seed=place) for place in range(NODES)})


class TestSampling:
    def test_a_share_of_the_nodes_takes_part_each_round_others_another_time(self, many, monkeypatch):
        who: list[tuple[int, str]] = []
        real = FedAvg.exchange

        def noted(self, turn, view, ours):
            who.extend((turn.round, node) for node in view.nodes)
            return real(self, turn, view, ours)

        monkeypatch.setattr(FedAvg, "exchange", noted)
        outcome = LocalRuntime(many).run(plan_of(DETECTOR, FedAvg(rounds=40, sample=0.3), 7))
        rounds, nodes = Counter(round for round, _ in who), Counter(node for _, node in who)
        assert set(rounds.values()) == {3}
        assert set(nodes) == set(many)
        # 40 rounds of 3 of 10: 12 a node, give or take.
        assert 4 <= min(nodes.values()) <= max(nodes.values()) <= 20
        weights = [np.asarray(memory["network.model"]) for memory in outcome.memories.values()]
        assert all(np.array_equal(weights[0], other) for other in weights)
        sent = [entry.sent for entry in outcome.history if entry.stage == "rounds"]
        everybody = LocalRuntime(many).run(plan_of(DETECTOR, FedAvg(rounds=1), 7))
        assert sent[0] == pytest.approx(0.3 * next(e.sent for e in everybody.history if e.stage == "rounds"), rel=0.01)

    def test_at_least_one_takes_part(self, many):
        losses = [
            e.loss for e in LocalRuntime(many).run(plan_of(DETECTOR, FedAvg(rounds=3, sample=0.001), 7)).history if e.stage == "rounds"
        ]
        assert all(loss is not None for loss in losses)

    def test_the_same_seed_draws_the_same_nodes_after_an_interruption_too(self, many, tmp_path):
        plan = plan_of(DETECTOR, FedAvg(rounds=6, sample=0.4, momentum=0.5), 7)
        whole = LocalRuntime(many).run(plan)

        def die(entry, _):
            if entry.stage == "rounds" and entry.number == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            LocalRuntime(many, checkpoint=tmp_path / "state").run(plan, die)
        resumed = LocalRuntime(many, checkpoint=tmp_path / "state", resume=True).run(plan)
        for node in many:
            assert np.array_equal(whole.memories[node]["network.model"], resumed.memories[node]["network.model"])

    @pytest.mark.parametrize("topology", [Full(), Ring()])
    def test_peers_that_rest_keep_what_they_had(self, many, topology):
        seen: list[dict[str, np.ndarray]] = []

        def look(entry, ended):
            if entry.stage == "rounds":
                seen.append({node: np.asarray(memory["network.model"]) for node, memory in ended().items()})

        strategy = GossipFedAvg(rounds=3, epochs=1, merging=1.0, sample=0.2)
        LocalRuntime(many).run(plan_of(DETECTOR, strategy, 7, topology), look)
        for before, after in itertools.pairwise(seen):
            moved = [node for node in many if not np.array_equal(before[node], after[node])]
            assert len(moved) == 2


def test_nodes_keep_no_network_that_is_sent_anew(many, tmp_path):
    """What a checkpoint takes does not grow with the networks of the nodes; in the end each has what was sent last."""
    sizes = []

    def look(entry, _):
        sizes.append((tmp_path / "state").stat().st_size)

    wide = DETECTOR.model_copy(update={"hidden": (400,)})
    outcome = LocalRuntime(many, checkpoint=tmp_path / "state").run(plan_of(wide, FedAvg(rounds=2), 7), look)
    one = np.asarray(outcome.memories["n0"]["network.model"]).nbytes
    assert max(sizes) < 3 * one
    assert all("network.model" in memory for memory in outcome.memories.values())

"""What a run says of privacy: what left the nodes, what hid it, what it came to, what an attack found; and the page made of it."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest

from conftest import correlated
from pages import HOSTILE, harmless, make_run, written
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.detectors.autoencoder import Autoencoder
from vedette.errors import RecipeError
from vedette.evaluation.experiment import Experiment
from vedette.evaluation.privacy import privacy_of
from vedette.evaluation.recipe import load_recipe
from vedette.runtimes.base import plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.topology import Ring, Topology
from vedette.strategies import Clustered, FedAvg, Local
from vedette.strategies.base import Strategy
from vedette.strategies.gossip import GossipFedAvg
from vedette.training.accounting import Release, epsilon_of
from vedette.training.dpsgd import DpSgdTrainer
from vedette.training.task import Optimiser, Trainer

HEADING = "Privacy: what leaves a node, and what could be found out"
DETECTOR = Autoencoder(hidden=(4, 2), optimiser=Optimiser(rate=0.01, batch=16), scaling=Scaling(numbers="standard"))
FLEET = Fleet.of({f"n{place}": correlated(40, 5, place) for place in range(5)}).map(lambda table: table.normal())
NOISE = ({"name": "clip", "norm": 0.5}, "noise")


def account(strategy: Strategy, topology: Topology | None = None, trainer: Trainer | None = None) -> dict[str, Any] | None:
    plan = plan_of(DETECTOR, strategy, 7, topology, trainer=trainer)
    return privacy_of(plan, LocalRuntime(FLEET).run(plan, lambda *_: None), len(FLEET))


def told(strategy: Strategy, topology: Topology | None = None, trainer: Trainer | None = None) -> dict[str, Any]:
    found = account(strategy, topology, trainer)
    assert found is not None
    return {**found, "method": "federated", "protocol": "strict", "seed": 7, "fold": ""}


def text_of(tmp_path: Path, **changed: Any) -> str:
    return written(tmp_path, json.loads(json.dumps(make_run(**changed)))).text


def test_without_a_chain_all_is_told_in_the_clear(tmp_path: Path) -> None:
    found = told(FedAvg(rounds=2))
    assert found["epsilon"] is None
    assert found["spent"] == []
    assert [stage["tells"] for stage in found["stages"]] == [["scaling"], ["weights", "norms", "facts"], ["scores"]]
    assert {stage["noise"] for stage in found["stages"]} == {None}
    # Parameters of 5-4-2-4-5 in float32, and a few facts.
    size = 4 * (5 * 4 + 4 + 4 * 2 + 2 + 2 * 4 + 4 + 4 * 5 + 5)
    assert size <= found["stages"][1]["sent"] <= size + 400
    text = text_of(tmp_path, privacy=[found])
    assert HEADING in text
    assert "What the coordinator sees: what each node sends, in the clear (scaling, rounds, threshold)." in text
    assert "nothing is promised: not all that nodes tell is under noise" in text


def test_nodes_that_tell_nobody_anything_have_no_such_part(tmp_path: Path) -> None:
    assert account(Local(rounds=1)) is None
    assert HEADING not in text_of(tmp_path)


def test_a_budget_is_told_stage_by_stage(tmp_path: Path) -> None:
    found = told(FedAvg(rounds=2, chain=NOISE, privacy={"epsilon": 8.0}))
    assert found["epsilon"] == pytest.approx(8.0, rel=2e-3)
    assert [(stage, number) for stage, number, _ in found["spent"]] == [("prepare", 1), ("rounds", 1), ("rounds", 2), ("calibrate", 1)]
    assert found["spent"][-1][2] == pytest.approx(found["epsilon"])
    assert [stage["tells"] for stage in found["stages"]] == [["scaling-votes"], ["weights", "norms"], ["level-votes"]]
    assert [stage["clip"] for stage in found["stages"]] == [1.0, 0.5, 1.0]
    assert {(stage["noise"], stage["secret"], stage["masked"]) for stage in found["stages"]} == {("coordinator", True, False)}
    text = text_of(tmp_path, privacy=[found])
    assert "epsilon 8.00 at delta 1e-05" in text
    # One release of this noise costs as much: two Gaussians 1 / 0.6002 apart.
    assert found["most_auc"] == pytest.approx(NormalDist().cdf(1 / 0.60023 / 2**0.5), abs=1e-3)
    assert "with an AUC above 0.88" in text
    assert "It adds the noise only afterwards, so it must be trusted." in text
    assert "This noise protects nobody" not in text
    assert "What was spent, step by step" in text


def test_noise_from_a_known_seed_is_told_loudly(tmp_path: Path) -> None:
    found = told(FedAvg(rounds=1, chain=(NOISE[0], {"name": "noise", "secret": False}), privacy={"epsilon": 8.0}))
    assert found["epsilon"] is None
    text = text_of(tmp_path, privacy=[found])
    assert "This noise protects nobody:" in text
    assert "can be taken away again" in text


def test_masks_and_compression_are_told(tmp_path: Path) -> None:
    masked = told(FedAvg(rounds=1, chain=(NOISE[0], {"name": "noise", "added": "shares"}, "mask"), privacy={"epsilon": 8.0}))
    assert all(stage["masked"] for stage in masked["stages"])
    packed = told(FedAvg(rounds=1, chain=({"name": "compress", "top": 0.1},)))
    text = text_of(tmp_path, privacy=[masked, {**packed, "method": "packed"}])
    assert "What the coordinator sees: sums over all nodes, never what one of them sent" in text
    assert "on the way up as the 10.0 % that changed most and int8; the way back is not compressed" in text


def test_what_a_mask_without_a_budget_leaves_open_is_told(tmp_path: Path) -> None:
    """Scaling and threshold are summarised as they are: only a budget has them voted on, within the chain."""
    found = told(FedAvg(rounds=1, chain=("mask",)))
    assert [stage["masked"] for stage in found["stages"]] == [False, True, False]
    assert found["stages"][1]["tells"] == ["weights", "norms"]
    text = text_of(tmp_path, privacy=[found])
    assert "in the clear (scaling, threshold). Readings stay where they are; of all else it sees only what is hidden." in text


def test_what_nodes_are_grouped_by_is_told(tmp_path: Path) -> None:
    """Under a budget it has noise of its own, at the node; without one a mask hides all but this."""
    shares = (NOISE[0], {"name": "noise", "added": "shares"}, "mask")
    private = told(Clustered(rounds=2, after=1, chain=shares, privacy={"epsilon": 8.0}))
    groups = private["stages"][1]
    assert (groups["stage"], groups["rounds"], groups["noise"], groups["clip"], groups["secret"]) == ("groups", 1, "node", 1.0, True)
    assert private["epsilon"] == pytest.approx(8.0, rel=2e-3)
    text = text_of(tmp_path, privacy=[private])
    assert "sums over all nodes of a cluster, never what one of them sent" in text
    assert "What nodes tell to be grouped by it sees node by node, under the node’s own noise." in text
    assert "masked: only each cluster’s sum is seen" in text
    named = told(Clustered(rounds=1, by={"name": "given", "clusters": {"all": ["*"]}}, after=0, chain=("mask",)))
    assert [stage["stage"] for stage in named["stages"]] == ["prepare", "rounds", "calibrate"]
    by_rows = told(Clustered(rounds=2, after=1, chain=("mask",)))
    assert "in the clear (scaling, grouping, threshold)" in text_of(tmp_path, privacy=[by_rows])


def test_what_dp_sgd_promises_for_a_row_is_told(tmp_path: Path) -> None:
    found = told(FedAvg(rounds=1), trainer=DpSgdTrainer(noise=2.0))
    assert found["epsilon"] is None, "it protects rows, not nodes"
    # Forty rows a node, sixteen of them in each of three steps.
    epsilon = epsilon_of([Release(2.0, 3, 16 / 40, "poisson")], 1e-5)
    assert found["rows"] == {"least": epsilon, "most": epsilon, "delta": 1e-5, "secret": True}
    assert found["stages"][1]["tells"] == ["weights", "norms", "rows"]
    text = text_of(tmp_path, privacy=[found])
    assert "What could be found out of one row of a node: little, by training with noise on the gradients (DP-SGD)" in text
    assert f"epsilon {epsilon:.2f} at delta 1e-05. With the row no network that comes of training is more than" in text
    free = told(FedAvg(rounds=1), trainer=DpSgdTrainer(noise=0.0, secret=False))
    text = text_of(tmp_path, privacy=[free])
    assert "This noise protects nobody:" in text
    assert "nothing is promised: training had no noise" in text


def test_among_peers_it_is_neighbours_that_see() -> None:
    found = told(GossipFedAvg(rounds=1), Ring())
    assert found["central"] is False
    assert told(FedAvg(rounds=1))["central"] is True


def test_names_of_others_do_no_harm(tmp_path: Path) -> None:
    found = told(FedAvg(rounds=1))
    attack = {"attack": "loss", "level": "row", "auc": 0.5, "low": 0.4, "high": 0.6, "members": 3, "outsiders": 3}
    abouts = [{"method": name, "protocol": name, "seed": 7, "fold": name} for name in HOSTILE]
    accounts, attacks = [{**found, **about} for about in abouts], [{**about, **attack} for about in abouts]
    page = written(tmp_path, make_run(privacy=accounts, membership=attacks))
    harmless(page)
    assert HEADING in page.text


@pytest.fixture(scope="module")
def attacked() -> dict[str, Any]:
    changes = ["membership=true", "strategy.rounds=2", "data.train_hours=12", "data.nodes=6", 'methods=["flag-all","local","federated"]']
    return Experiment(load_recipe("demo", quick=True, changes=changes)).run().run


@pytest.mark.slow
def test_a_recipe_attacks_what_was_learned_together(attacked: dict[str, Any], tmp_path: Path) -> None:
    """By rows and by nodes, by loss and against other models; the control, which knows its rows by heart, gives them away."""
    found = {(each["method"], each["level"], each["attack"]): each for each in attacked["membership"]}
    ways = [(level, attack) for level in ("row", "node") for attack in ("loss", "calibrated")]
    assert list(found) == [(method, *way) for method in ("federated", "control") for way in ways]
    assert [each["method"] for each in attacked["privacy"]] == ["federated"]
    assert all(each["low"] <= each["auc"] <= each["high"] for each in found.values())
    assert max(found["control", "row", attack]["auc"] for attack in ("loss", "calibrated")) > 0.7
    text = written(tmp_path, json.loads(json.dumps(attacked))).text
    assert "Who could tell what it was trained on?" in text
    assert "on a model that knows its rows by heart" in text


def test_classifiers_are_not_attacked() -> None:
    with pytest.raises(RecipeError, match="membership attack"):
        load_recipe("poison-drill", changes=["membership=true"])

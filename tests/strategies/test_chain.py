"""The chain: what passes through clip, noise, compress and mask is what came out without them, as far as each of them says."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from conftest import correlated
from vedette import federate
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.data.summaries import Moments, Sketch
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.dual_network import DualNetwork
from vedette.detectors.mlp import Mlp
from vedette.detectors.threshold import MeanStd
from vedette.errors import BudgetSpent, RecipeError
from vedette.message import Message, Vector
from vedette.runtimes.base import Outcome, plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.privacy import cost_of
from vedette.runtimes.topology import Ring
from vedette.strategies import FedAvg, FedProx, MtadFl
from vedette.strategies.base import STRATEGIES, Strategy, Turn
from vedette.strategies.budget import Privacy
from vedette.strategies.fedkd import FedKd
from vedette.strategies.gossip import GossipFedAvg
from vedette.strategies.p2pk_smote import P2pkSmote
from vedette.strategies.private import PrivateCalibrate
from vedette.training.accounting import Release, epsilon_of, noise_for
from vedette.training.task import Done, Optimiser

STEPS = Optimiser(rate=0.01, batch=16)
DENSE = Autoencoder(hidden=(4, 2), optimiser=STEPS)
# Adam would make much of a gradient that is 0 but for rounding: that of a bias before batch-norm.
NORMED = Mlp(hidden=(4,), batch_norm=True, optimiser=Optimiser(name="sgd", rate=0.05, batch=16))
STANDARD = DENSE.model_copy(update={"scaling": Scaling(numbers="standard")})
FLEET = Fleet.of({f"n{place}": correlated(60 + place, 5, place, anomalies=0.2) for place in range(6)})
CLIP: dict[str, Any] = {"name": "clip", "norm": 1e6}
NOISE: dict[str, Any] = {"name": "noise", "secret": False}


def run(strategy: Strategy, detector: Any = DENSE, fleet: Fleet = FLEET, seed: int = 7) -> Outcome:
    rows = fleet if detector.learning == "supervised" else fleet.map(lambda table: table.normal())
    return LocalRuntime(rows).run(plan_of(detector, strategy, seed))


def weights(outcome: Outcome) -> Any:
    return np.asarray(outcome.memories["n0"]["network.model"])


@pytest.mark.parametrize("link", [CLIP, "mask", {"name": "compress", "values": "float32"}], ids=["clip", "mask", "compress"])
@pytest.mark.parametrize(
    ("detector", "strategy"),
    [
        (DENSE, FedAvg(rounds=3, momentum=0.5)),
        (NORMED, FedAvg(rounds=2)),
        (DENSE, FedProx(rounds=2, mu=0.1)),
        (DENSE, FedKd(rounds=2, epochs=1)),
        (DENSE, FedAvg(rounds=4, sample=0.5)),
    ],
    ids=["momentum", "batch-norm", "fedprox", "fedkd", "sampled"],
)
def test_a_link_that_takes_nothing_away_changes_nothing(detector: Any, strategy: Strategy, link: Any) -> None:
    """Behind masks all adds up to what it would without, to the step of the fixed point."""
    plain, chained = run(strategy, detector), run(type(strategy)(**{**dict(strategy), "chain": (link,)}), detector)
    for node, memory in plain.memories.items():
        assert memory.keys() == chained.memories[node].keys(), "the chain leaves nothing in a memory"
        np.testing.assert_allclose(chained.memories[node]["network.model"], memory["network.model"], atol=1e-6)


def test_clipping_bounds_how_far_a_round_moves() -> None:
    plain, clipped = run(FedAvg(rounds=1)), run(FedAvg(rounds=1, chain=({"name": "clip", "norm": 0.05},)))
    none = weights(run(FedAvg(rounds=0)))
    assert np.linalg.norm(weights(plain) - none) > 0.2
    assert np.linalg.norm(weights(clipped) - none) <= 0.05


def test_a_length_that_adapts_comes_to_what_a_quantile_of_the_nodes_needs() -> None:
    chain = ({"name": "clip", "norm": 10.0, "quantile": 0.5, "rate": 1.0},)
    outcome = run(FedAvg(rounds=12, chain=chain))
    # From 10, falling by e^0.5 a round while nobody is clipped.
    assert 0.02 < float(outcome.exchanged["rounds"]["*"]["chain.clip"]) < 1.0


@pytest.mark.parametrize("added", ["coordinator", "node", "shares"])
def test_noise_is_as_strong_as_said(added: str) -> None:
    """Of one round: the sum of nodes has noise of z · C, their mean a sixth of that; whoever adds it alone adds sqrt(6) times as much."""
    chain: tuple[Any, ...] = ({"name": "clip", "norm": 1e-3}, {**NOISE, "multiplier": 600.0, "added": added})
    chain += ("mask",) if added == "shares" else ()
    wide = DENSE.model_copy(update={"hidden": (64, 32)})
    moved = weights(run(FedAvg(rounds=1, chain=chain), wide)) - weights(run(FedAvg(rounds=0), wide))
    # One of six may vanish, whose part the others' must make up for.
    expected = 600 * 1e-3 / 6 * {"coordinator": 1.0, "node": np.sqrt(6), "shares": np.sqrt(6 / 5)}[added]
    assert moved.std() == pytest.approx(expected, rel=0.05)


def test_noise_that_nodes_add_is_not_clipped_where_it_arrives() -> None:
    """As strong compressed as it was, not cut to the length of what nodes have changed."""
    clip, noise = {"name": "clip", "norm": 1e-3}, {**NOISE, "multiplier": 600.0, "added": "node"}
    wide = DENSE.model_copy(update={"hidden": (64, 32)})
    chain = (clip, noise, {"name": "compress", "values": "float32"})
    moved = weights(run(FedAvg(rounds=1, chain=chain), wide)) - weights(run(FedAvg(rounds=0), wide))
    assert moved.std() == pytest.approx(600 * 1e-3 / np.sqrt(6), rel=0.05)


def test_noise_that_a_mask_would_cut_is_refused() -> None:
    chain = ({"name": "clip", "norm": 1.0}, {**NOISE, "multiplier": 2.0, "added": "shares"}, {"name": "mask", "limit": 3.0})
    with pytest.raises(RecipeError, match="raise its limit"):
        run(FedAvg(rounds=1, chain=chain))


def test_noise_from_the_system_is_never_the_same_and_from_the_seed_always() -> None:
    chain: tuple[Any, ...] = (CLIP, {**NOISE, "multiplier": 1e-6})
    known, secret = FedAvg(rounds=1, chain=chain), FedAvg(rounds=1, chain=(CLIP, {"name": "noise", "multiplier": 1e-6}))
    np.testing.assert_array_equal(weights(run(known)), weights(run(known)))
    assert (weights(run(secret)) != weights(run(secret))).any()


@pytest.mark.parametrize(
    ("link", "bytes_", "near"),
    [
        ({"values": "float16"}, 0.6, 0.05),
        ({"values": "int8"}, 0.35, 0.05),
        ({"values": "int8", "top": 0.1}, 0.1, 0.3),
        ({"values": "float32", "rank": 2}, 0.7, 0.2),
    ],
)
def test_compression_sends_less_and_comes_near(link: dict[str, Any], bytes_: float, near: float) -> None:
    wide = DENSE.model_copy(update={"hidden": (64, 32)})
    plain, packed = run(FedAvg(rounds=10), wide), run(FedAvg(rounds=10, chain=({"name": "compress", **link},)), wide)
    rounds = [entry for entry in packed.history if entry.stage == "rounds"]
    whole = [entry for entry in plain.history if entry.stage == "rounds"]
    assert sum(entry.sent for entry in rounds) < bytes_ * sum(entry.sent for entry in whole)
    assert np.linalg.norm(weights(packed) - weights(plain)) < near * np.linalg.norm(weights(plain))


def test_what_is_left_out_is_sent_later() -> None:
    def kept(feedback: bool) -> float:
        chain = ({"name": "compress", "values": "float32", "top": 0.05, "feedback": feedback},)
        return float(np.linalg.norm(weights(run(FedAvg(rounds=15, chain=chain))) - weights(run(FedAvg(rounds=15)))))

    assert kept(True) < kept(False)


REFUSED = [
    (FedAvg(chain=("noise",)), "noise needs one 'clip' before it"),
    (FedAvg(chain=("noise", "clip")), "noise needs one 'clip' before it"),
    (FedAvg(aggregator="median", chain=("clip", {"name": "noise", "multiplier": 1.0})), "this exchange wants to see each node"),
    (FedAvg(aggregator="median", chain=("mask",)), "to take a median, to choose by Krum, to match weights"),
    (FedAvg(aggregator="krum", chain=("mask",)), "to take a median, to choose by Krum, to match weights"),
    (FedAvg(chain=("mask", "clip")), "'mask' comes last"),
    (FedAvg(chain=({"name": "compress", "top": 0.1}, "mask")), "compressed numbers cannot be added"),
    (FedAvg(chain=("clip", {"name": "noise", "added": "shares", "multiplier": 1.0})), "add 'mask'"),
    (FedAvg(chain=("clip", {"name": "noise", "multiplier": 1.0}, "mask")), "take added = 'shares'"),
    (FedAvg(chain=({"name": "clip", "quantile": 0.5}, "mask")), "take a fixed one"),
    (FedAvg(chain=("clip", "noise")), "how much noise"),
]


@pytest.mark.parametrize(("strategy", "reason"), REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_done(strategy: Strategy, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        plan_of(DENSE, strategy, 7)


@pytest.mark.parametrize(
    ("detector", "strategy"),
    [(DualNetwork(), MtadFl(chain=("mask",))), (DENSE, GossipFedAvg(chain=("clip",))), (Mlp(), P2pkSmote(chain=("mask",)))],
)
def test_strategies_that_the_chain_does_not_go_with_say_why(detector: Any, strategy: Strategy) -> None:
    with pytest.raises(RecipeError, match=r"match weights|does not send all nodes the same|several ways"):
        plan_of(detector, strategy, 7)


def test_among_peers_there_is_nobody_to_count_changes_from() -> None:
    plan = plan_of(DENSE, FedAvg(rounds=1, chain=("clip",)), 7, Ring())
    with pytest.raises(RecipeError, match="needs a coordinator"):
        LocalRuntime(FLEET.map(lambda table: table.normal())).run(plan)


# A budget.


def private(epsilon: float, *more: Any, **settings: Any) -> FedAvg:
    return FedAvg(rounds=3, chain=({"name": "clip", "norm": 1.0}, {**NOISE, **settings}, *more), privacy={"epsilon": epsilon})


def test_a_budget_covers_all_that_nodes_tell_and_is_counted_round_by_round() -> None:
    outcome = run(private(8.0), STANDARD)
    spent = [entry.epsilon for entry in outcome.history]
    assert [entry.stage for entry in outcome.history] == ["prepare", *["rounds"] * 3, "calibrate"]
    assert all(before is not None and after is not None and before < after for before, after in pairwise(spent))
    assert spent[-1] == pytest.approx(8.0, rel=2e-3)
    assert spent[-1] is not None
    assert spent[-1] <= 8.0
    # Two votes, then three rounds, then a vote on the threshold.
    plan = plan_of(STANDARD, private(8.0), 7)
    multipliers = [part["strategy"]["chain"][1]["multiplier"] for part in plan["stages"]]
    releases = [Release(noise, times) for noise, times in zip(multipliers, (2, 3, 1), strict=True)]
    assert epsilon_of(releases, 1e-5) == pytest.approx(spent[-1])


def test_what_a_plan_costs_is_worked_out_from_the_plan() -> None:
    def cost(strategy: Strategy) -> float:
        plan = plan_of(STANDARD, strategy, 7)
        return cost_of([STRATEGIES[part["strategy"].pop("name")](**part["strategy"]) for part in plan["stages"]], 1e-5)

    assert cost(private(8.0, secret=True)) == pytest.approx(8.0, rel=2e-3)
    assert cost(private(8.0)) == np.inf, "noise that others can draw too is none"
    assert cost(FedAvg()) == np.inf


def test_noise_that_is_too_little_for_a_budget_stops_before_the_run() -> None:
    with pytest.raises(BudgetSpent, match="the privacy budget of epsilon 1 "):
        plan_of(STANDARD, private(1.0, multiplier=1.0), 7)


@pytest.mark.parametrize(
    ("privacy", "draw"),
    [({}, {}), pytest.param({"prepare": 0.3, "calibrate": 0.2}, {"sample": 0.5}, marks=pytest.mark.slow)],
    ids=["all", "drawn"],
)
def test_the_budget_is_shared_out_by_inverse_squares(privacy: dict[str, float], draw: dict[str, float]) -> None:
    """Two votes on the scaling, and one on the threshold, cost their share of what one release for the whole budget would."""
    strategy = private(2.0).model_copy(update={"privacy": Privacy(epsilon=2.0, **privacy), **draw})
    stages = [part["strategy"] for part in plan_of(STANDARD, strategy, 7)["stages"]]
    prepare, _, calibrate = (stage["chain"][1]["multiplier"] for stage in stages)
    whole = noise_for(2.0, 1e-5, draw="fixed" if draw else "all")
    assert 2 / prepare**2 == pytest.approx(strategy.privacy.prepare / whole**2)
    assert 1 / calibrate**2 == pytest.approx(strategy.privacy.calibrate / whole**2)


def test_a_budget_leaves_something_for_the_rounds() -> None:
    with pytest.raises(ValueError, match="leave nothing for the rounds"):
        Privacy(epsilon=1.0, prepare=0.6, calibrate=0.4)


def test_residuals_are_told_under_noise_too() -> None:
    """Nodes tell how large each feature's residuals are; what comes of it is the mean of these, if noise is next to nothing."""
    detector = STANDARD.model_copy(update={"residual": "variance"})
    outcome = run(private(1e6), detector)
    assert len(plan_of(detector, private(8.0), 7)["stages"][2]["strategy"]["chain"]) == 2
    common = Moments.from_table(outcome.memories["n0"]["residuals.moments"])
    own = [Moments.from_table(memory["own.residuals.moments"]) for memory in outcome.memories.values()]
    sizes = np.array([np.sqrt(each.variance + each.mean**2) for each in own])
    sizes *= np.minimum(1.0, np.sqrt(0.1 * sizes.shape[1]) / np.linalg.norm(sizes, axis=1))[:, None]
    np.testing.assert_allclose(np.sqrt(common.variance), sizes.mean(axis=0), atol=0.02)


@pytest.mark.parametrize(
    ("detector", "reason"),
    [
        (STANDARD.model_copy(update={"residual": "mahalanobis"}), "cannot take covariances of residuals"),
        (STANDARD.model_copy(update={"threshold": MeanStd()}), "nodes vote on a threshold"),
        (DENSE, "nodes vote on a scaling"),
    ],
)
def test_what_no_noise_covers_is_refused_under_a_budget(detector: Any, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        plan_of(detector, private(8.0), 7)


def test_a_private_federation_finds_what_an_open_one_finds() -> None:
    """Two hundred small nodes; scaling, weights and threshold within epsilon 8."""
    fleet = Fleet.of({f"n{place:03}": correlated(40, 5, place) for place in range(200)}).map(lambda table: table.normal())
    tests, found = correlated(2000, 5, 1000, anomalies=0.2), {}
    label = tests.label
    assert label is not None
    for name, strategy in {"open": FedAvg(rounds=3), "private": private(8.0)}.items():
        detector = federate(fleet, STANDARD, strategy, seed=3).detectors["n000"]
        scores = detector.decision_function(tests)
        found[name] = float((scores[label == 1][:, None] > scores[label == 0][None]).mean())
        assert (scores[label == 0] > detector.threshold_).mean() < 0.1
    assert found["private"] > found["open"] - 0.05


def test_behind_a_mask_all_that_is_noised_is_summed_in_secret() -> None:
    """Votes, weights and the histogram, each in four steps; noise in shares is as good as the coordinator's, but for the draw."""
    outcome = run(private(8.0, "mask", added="shares"), STANDARD)
    plan = plan_of(STANDARD, private(8.0, "mask", added="shares"), 7)
    assert [[link["name"] for link in part["strategy"]["chain"]] for part in plan["stages"]] == [["clip", "noise", "mask"]] * 3
    assert [entry.epsilon for entry in outcome.history] == [entry.epsilon for entry in run(private(8.0), STANDARD).history]
    assert STANDARD.restored(outcome.memories["n0"]).threshold_ > 0


def test_messages_that_are_no_compressed_parameters_are_refused() -> None:
    from vedette.errors import MessageRefused
    from vedette.strategies.chain.compress import _unpacked

    good = {"size": np.array([4.0, 1.0]), "values": np.ones(2, dtype=np.int8), "where": np.array([0, 3], dtype=np.int32)}
    assert _unpacked(good).tolist() == [1, 0, 0, 1]
    bad: list[dict[str, Any]] = [
        {"values": np.ones(2)},
        {**good, "size": np.array([1e300, 1.0])},
        {**good, "size": np.array([np.nan, 1.0])},
        {**good, "where": np.array([0, 4], dtype=np.int32)},
        {**good, "where": np.array([-1, 2], dtype=np.int32)},
        {**good, "where": np.array([2, 2], dtype=np.int32)},
        {**good, "where": np.array([1], dtype=np.int32)},
        {**good, "where": np.array([255], dtype=np.uint8)},
        {"size": good["size"], "values": np.ones(3), "shapes": np.array([[0, 2, 2, 1]])},
        {"size": good["size"], "values": np.ones(8), "shapes": np.array([[0, 2, 2, 1], [0, 2, 2, 1]])},
        {"size": good["size"], "values": np.ones(4), "shapes": np.array([[3, 2, 2, 1]])},
        {"size": good["size"], "values": np.ones(4), "shapes": np.array([[0, -2, -2, 1]])},
    ]
    for message in bad:
        with pytest.raises(MessageRefused):
            _unpacked(message)
    assert Message({"model": Vector(_unpacked(good), "x")}).vectors["model"].values.dtype == np.float32


def test_a_vote_counts_as_the_rows_do_up_to_a_number_of_them() -> None:
    def vote(rows: int, full: int) -> float:
        scores = Sketch.of(np.linspace(0.1, 1.0, rows)).table()
        done = Done({}, Message(tables={"scores.sketch": scores}))
        turn = Turn(0, "scores", ("n",), {}, np.random.default_rng, "n")
        message, _ = PrivateCalibrate(fit="federated", full=full).answer(turn, done, {})
        return float(np.linalg.norm(message.vectors["votes"].values))

    assert [vote(50, 200), vote(200, 200), vote(900, 200), vote(50, 100)] == pytest.approx([0.25, 1, 1, 0.5])
    plan = plan_of(STANDARD, private(8.0).model_copy(update={"privacy": Privacy(epsilon=8.0, full=70)}), 7)
    assert plan["stages"][2]["strategy"]["full"] == 70

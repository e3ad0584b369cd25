"""What compromised nodes do, worked out by hand; and which aggregators stand it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vedette.data.table import Coded, Table
from vedette.errors import UnknownName
from vedette.message import Channel, Message, Vector
from vedette.seeds import stream
from vedette.settings import build, describe
from vedette.strategies.aggregation import AGGREGATORS, Aggregator
from vedette.strategies.attacks import ATTACKS, ALittleIsEnough, Attack, FalseWeight, Scaled, SignFlip
from vedette.strategies.base import Turn
from vedette.strategies.view import Answers

NAMES = sorted(ATTACKS)
ON_ROWS = {"label-flip", "benign-mimic"}
ON_ANSWERS = {"sign-flip", "scaled", "nan", "a-little-is-enough", "false-weight"}
TURN = Turn(0, "train", (), {}, stream(0), "liar")


def message(model: list[float], norms: list[float] | None = None, **facts: float | str) -> Message:
    vectors = {"model": Vector(np.array(model, dtype=np.float32), "x")}
    if norms is not None:
        vectors["norms"] = Vector(np.array(norms, dtype=np.float32), "y")
    return Message(vectors, facts=facts)


OWN = message([3, 1, -2], [0.5, 2], rows=10.0, variance=0.5, loss=0.1, device="camera")
START = message([1, 1, 0], [0.25, 1])
HONEST = [message([1, 2, 0], [0, 1]), message([3, 2, 0], [1, 1])]


def forged(attack: Attack, own: Message = OWN, received: Message = START) -> Message:
    return attack.forged(TURN, own, received, HONEST, 2)


def test_every_attack_is_one_on_rows_or_on_answers():
    assert {*ON_ROWS, *ON_ANSWERS, "none"} == set(ATTACKS)


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_keeps_to_the_form(name):
    attack = ATTACKS[name]()
    assert build(ATTACKS, json.loads(json.dumps(describe(ATTACKS, attack))), "test") == attack
    before = {channel: vector.values.copy() for channel, vector in OWN.vectors.items()}
    sent = forged(attack)
    assert {channel: (v.values.dtype, v.values.shape, v.layout) for channel, v in sent.vectors.items()} == {
        channel: (np.float32, v.values.shape, v.layout) for channel, v in OWN.vectors.items()
    }
    changed = any(not np.array_equal(sent.vectors[channel].values, before[channel]) for channel in before)
    assert changed == (name in ON_ANSWERS)
    assert all(np.array_equal(OWN.vectors[channel].values, before[channel]) for channel in before)
    # Batch-norm statistics stay what they are: a variance below zero would give the attack away.
    assert (np.isnan(sent.vectors["norms"].values).all()) if name == "nan" else sent.vectors["norms"].values.tolist() == [0.5, 2]
    assert (sent.facts == OWN.facts) == (name != "false-weight")


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_poisoned_where_labels_are_known(name):
    kinds = Coded.of(["normal", "scan", "scan"])
    table = Table.from_array(np.arange(6.0).reshape(3, 2), np.array([0, 1, 1]))
    table = Table(table.features, table.numbers, label=table.label, kind=kinds)
    rows = ATTACKS[name]().poisoned(table, np.random.default_rng(0))
    labels = {"label-flip": [1, 0, 0], "benign-mimic": [0, 0, 0]}.get(name, [0, 1, 1])
    assert rows.label.tolist() == labels
    assert rows.label.dtype == np.int8
    assert (rows.kind is None) == (name in ON_ROWS)
    assert np.array_equal(rows.numbers, table.numbers)
    assert table.label.tolist() == [0, 1, 1]
    unlabelled = Table.from_array(np.zeros((2, 1)))
    assert ATTACKS[name]().poisoned(unlabelled, np.random.default_rng(0)) is unlabelled


def test_updates_are_turned_round_and_exaggerated():
    # The honest step is [2, 0, -2] from [1, 1, 0].
    assert forged(SignFlip()).vectors["model"].values.tolist() == [-1, 1, 2]
    assert forged(SignFlip(scale=3)).vectors["model"].values.tolist() == [-5, 1, 6]
    assert forged(Scaled()).vectors["model"].values.tolist() == [201, 1, -200]
    assert forged(Scaled(factor=2)).vectors["model"].values.tolist() == [5, 1, -4]
    # In the first round nothing was received: the step is from 0.
    assert forged(SignFlip(), received=Message()).vectors["model"].values.tolist() == [-3, -1, 2]
    # Beyond float32 there is nothing but infinity, which is another attack.
    assert forged(Scaled(), own=message([3e38, -3e38, 0])).vectors["model"].values.tolist() == [
        np.finfo(np.float32).max,
        np.finfo(np.float32).min,
        0,
    ]


def test_a_false_weight_is_a_million_times_the_true_one():
    sent = forged(FalseWeight())
    assert sent.facts == {"rows": 1e7, "variance": 5e5, "loss": 0.1, "device": "camera"}
    assert sent.vectors["model"].values.tolist() == [-1, 1, 2]
    assert forged(FalseWeight(factor=2)).facts["rows"] == 20.0


def test_a_little_is_enough_stays_within_the_spread_of_the_honest():
    # Honest: 1 and 3, mean 2, standard deviation 1; 2 and 2; 0 and 0.
    assert forged(ALittleIsEnough(z=1.5)).vectors["model"].values.tolist() == [0.5, 2, 0]
    # Four nodes, two of them compromised: s = floor(4 / 2 + 1) - 2 = 1; Phi(z) = (4 - 2 - 1) / 2 = 0.5, so z = 0.
    assert forged(ALittleIsEnough()).vectors["model"].values.tolist() == [2, 2, 0]
    # Whoever knows no honest node sends its own.
    assert ALittleIsEnough().forged(TURN, OWN, START, [], 2).vectors["model"].values.tolist() == [3, 1, -2]


def test_z_as_in_the_paper():
    """n = 50, m = 24: s = floor(50 / 2 + 1) - 24 = 2; Phi(z) < (50 - 24 - 2) / (50 - 24) = 24 / 26 = 0.923; by the z-table, z = 1.43."""
    assert ALittleIsEnough.deviations(50, 24) == pytest.approx(1.426, abs=5e-4)
    # n = 9, m = 2: s = 5 - 2 = 3, Phi(z) = 4 / 7 = 0.571, z = 0.18. Phi(z) = 0.5 + z / sqrt(2 pi) nearly: 0.0714 * 2.507 = 0.179.
    assert ALittleIsEnough.deviations(9, 2) == pytest.approx(0.180, abs=5e-4)
    # m = 10 of 50: s = 16, Phi(z) = 24 / 40 = 0.6, z = 0.253.
    assert ALittleIsEnough.deviations(50, 10) == pytest.approx(0.2533, abs=5e-5)
    # A majority needs nobody, and nobody is left to be farther off.
    assert [ALittleIsEnough.deviations(n, m) for n, m in ((2, 1), (3, 2), (1, 1), (5, 5))] == [0.0] * 4


def test_an_unknown_attack_is_refused_by_name():
    with pytest.raises(UnknownName, match="unknown attack 'sign-flop'; did you mean 'sign-flip'"):
        build(ATTACKS, "sign-flop", "test")


PARAMETERS, NOISE = 400, 0.1
SETTINGS = {"trimmed-mean": {"share": 0.25}, "krum": {"attackers": 2}, "multi-krum": {"attackers": 2}}
ROBUST = sorted(set(AGGREGATORS) - {"mean"})


def off(aggregator: Aggregator, attack: Attack) -> tuple[float, dict[str, float]]:
    """Nine nodes move by 1 from where they set out, all but the same way, two of them compromised.

    Return how far off the honest mean the result is (root mean square over the coordinates), in units of what honest nodes are, and who
    counted how much.
    """
    rng = np.random.default_rng(11)
    start = rng.normal(size=PARAMETERS)
    point = start + rng.choice([-1.0, 1.0], PARAMETERS)
    answers = {f"n{i}": message(list(point + rng.normal(0, NOISE, PARAMETERS)), [1.0, 2.0], rows=100.0) for i in range(9)}
    honest = {node: answers[node] for node in sorted(answers) if node not in ("n2", "n5")}
    combine = "gather" if aggregator.gathers else "mean"
    view = Answers([Channel("model", combine=combine), Channel("norms", combine=combine, holds="buffers")])
    for node, own in answers.items():
        view.add(node, own if node in honest else attack.forged(TURN, own, message(list(start)), list(honest.values()), 2))
    combined = aggregator.combined(view, ("model", "norms"))
    assert combined.vectors["norms"].values.tolist() == [1.0, 2.0]
    middle = np.mean([own.vectors["model"].values for own in honest.values()], axis=0, dtype=np.float64)
    return float(np.sqrt(((combined.vectors["model"].values - middle) ** 2).mean())) / NOISE, dict(combined.counted)


def built(name: str) -> Aggregator:
    return AGGREGATORS[name](**SETTINGS.get(name, {}))


@pytest.mark.parametrize("attack", sorted({*ON_ANSWERS, "none"}))
@pytest.mark.parametrize("name", ROBUST)
def test_robust_aggregators_stay_where_honest_nodes_are(name, attack):
    """No farther from the honest mean than one honest node is (sqrt(6 / 7) = 0.93 of the noise), whoever attacks."""
    far, counted = off(built(name), ATTACKS[attack]())
    assert far < 1
    compromised, others = {counted.pop(node) for node in ("n2", "n5") if node in counted}, counted.values()
    if attack == "nan":
        assert not compromised
    elif attack in ("sign-flip", "scaled", "false-weight"):
        # They are named by how little they count: where the honest step is 1 and the noise 0.1, not at all.
        assert compromised == {0.0}
        assert sum(others) > 0
        if name == "multi-krum":
            # What is left is the honest mean itself.
            assert far < 1e-5
            assert set(others) == {1.0}


def test_a_plain_mean_stands_no_lies():
    """Nine nodes of step 1, two of them scaled by 100: (7 + 200) / 9 = 23 instead of 1. Two of a million times the rows decide alone."""
    mean = AGGREGATORS["mean"]()
    assert off(mean, ATTACKS["none"]())[0] < 0.5
    assert off(mean, Scaled())[0] == pytest.approx(22 / NOISE, rel=0.01)
    assert off(mean, FalseWeight())[0] == pytest.approx(2 / NOISE, rel=0.01)
    # (7 - 2) / 9 - 1 = -4 / 9 of the step.
    assert off(mean, SignFlip())[0] == pytest.approx(4 / 9 / NOISE, rel=0.02)
    # What is no number is refused, and the mean that of the others.
    assert off(mean, ATTACKS["nan"]())[0] < 1e-5

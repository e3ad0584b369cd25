"""The secure sum: exact, silent about single nodes, and not to be talked out of it."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from vedette.errors import MessageRefused, MissingExtra, RecipeError, TooFewNodes
from vedette.files import read_memory, write_memory
from vedette.message import Array, Memory, Message
from vedette.strategies.chain.secure import (
    Assumed,
    Fixed,
    Roll,
    advertise,
    forgotten,
    introduced,
    masked,
    revealed,
    routed,
    share,
    shares,
    summed,
    terms_for,
    unmasked,
)
from vedette.strategies.chain.secure.graph import COMPLETE, neighbours
from vedette.strategies.chain.secure.shares import combined, split

SEED = "run 1, round 0"
USUAL = Assumed()
SPARSE = Assumed(vanish=0.1, corrupt=0.02, lies=False, security=10, liveness=5)


class Round:
    """A round of a secure sum, step by step; whoever is named in `gone` does not answer from that step on."""

    def __init__(self, nodes: int, assumed: Assumed = USUAL, count: int = 5, bits: int = 32, folder: Path | None = None) -> None:
        self.names = [f"node-{i:03d}" for i in range(nodes)]
        self.assumed, self.count, self.bits, self.folder = assumed, count, bits, folder
        rng = np.random.default_rng(nodes)
        self.words = {name: rng.integers(0, 2**bits, count, dtype=f"u{bits // 8}") for name in self.names}
        self.mine: dict[str, Memory] = {name: {"model": np.zeros(2, np.float32)} for name in self.names}
        self.ours: Memory = {"best": 0.5}

    def saved(self, memory: Memory) -> Memory:
        if self.folder is None:
            return memory
        write_memory(self.folder / "memory.safetensors", memory)
        return read_memory(self.folder / "memory.safetensors")[0]

    def _answers(self, step, inboxes: Mapping[str, Message | None], gone: Collection[str], table: str) -> dict[str, Array]:
        sent = {}
        for name, inbox in inboxes.items():
            if name not in gone:
                message, memory = step(inbox, self.mine[name], name)
                self.mine[name] = self.saved(memory)
                sent[name] = message.tables[f"secure.{table}"]
        return sent

    def keys(self, gone: Collection[str] = ()) -> dict[str, Array]:
        return self._answers(lambda _, mine, name: advertise(name, mine), dict.fromkeys(self.names), gone, "keys")

    def roll(self, keys: Mapping[str, Array]) -> Message:
        message, ours = introduced(keys, self.ours, SEED, self.assumed)
        self.ours = self.saved(ours)
        return message

    def shares(self, rolls: Mapping[str, Message], gone: Collection[str] = ()) -> dict[str, Array]:
        return self._answers(lambda inbox, mine, _: share(inbox, mine, SEED, self.assumed), rolls, gone, "shares")

    def parcels(self, sealed: Mapping[str, Array]) -> dict[str, Message]:
        messages, ours = routed(sealed, self.ours)
        self.ours = self.saved(ours)
        return messages

    def masked(self, parcels: Mapping[str, Message], gone: Collection[str] = ()) -> dict[str, Array]:
        return self._answers(lambda inbox, mine, name: masked(inbox, mine, self.words[name]), parcels, gone, "words")

    def heard(self, words: Mapping[str, Array]) -> Message:
        message, ours = summed(words, self.ours, self.count, self.bits)
        self.ours = self.saved(ours)
        return message

    def revealed(self, inboxes: Mapping[str, Message], gone: Collection[str] = ()) -> dict[str, Array]:
        return self._answers(lambda inbox, mine, _: revealed(inbox, mine), inboxes, gone, "revealed")

    def until_parcels(self, gone: Collection[str] = ()) -> dict[str, Message]:
        keys = self.keys()
        return self.parcels(self.shares(dict.fromkeys(keys, self.roll(keys)), gone))

    def until_heard(self, gone: Collection[str] = ()) -> tuple[Message, dict[str, Array]]:
        words = self.masked(self.until_parcels(), gone)
        return self.heard(words), words

    def run(self, gone: tuple[Collection[str], ...] = ((), (), (), ())) -> tuple[Array, Array]:
        """Return the sum that came out and the plain one."""
        keys = self.keys(gone[0])
        words = self.masked(self.parcels(self.shares(dict.fromkeys(keys, self.roll(keys)), gone[1])), gone[2])
        total, self.ours = unmasked(self.revealed(dict.fromkeys(words, self.heard(words)), gone[3]), self.ours)
        return total, np.sum([self.words[name] for name in words], axis=0, dtype=total.dtype)


@pytest.mark.parametrize("step", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("bits", [32, 64])
def test_the_sum_is_exact_whenever_30_percent_vanish(step, bits) -> None:
    turn = Round(20, bits=bits)
    gone = tuple(turn.names[::3][:6] if step == at else () for at in range(4))
    total, plain = turn.run(gone)
    np.testing.assert_array_equal(total, plain)
    assert total.dtype == np.dtype(f"u{bits // 8}")
    assert turn.ours == {"best": 0.5}, "nothing of the round is left at the exchange"


@settings(max_examples=15)
@given(nodes=st.integers(3, 14), data=st.data())
def test_the_sum_is_exact_however_nodes_vanish(nodes, data) -> None:
    """As many as are assumed at most, each at any step."""
    turn = Round(nodes)
    leaving = data.draw(st.dictionaries(st.sampled_from(turn.names), st.integers(1, 3), max_size=int(0.3 * nodes)))
    total, plain = turn.run(tuple([name for name, step in leaving.items() if step == at] for at in range(4)))
    np.testing.assert_array_equal(total, plain)


def test_the_sum_is_exact_on_a_sparse_graph_and_with_every_state_saved(tmp_path) -> None:
    turn = Round(40, SPARSE, folder=tmp_path)
    assert terms_for(40, SPARSE).degree < 39
    total, plain = turn.run((turn.names[:1], turn.names[10:11], turn.names[20:21], turn.names[30:31]))
    np.testing.assert_array_equal(total, plain)
    np.testing.assert_array_equal(forgotten(turn.mine["node-039"])["model"], np.zeros(2, np.float32))
    assert list(forgotten(turn.mine["node-039"])) == ["model"]


def test_a_weighted_mean_comes_out_of_one_sum() -> None:
    fixed = Fixed({"model": 2.0, "norms": 500.0}, summands=4, heaviest=100.0)
    # m = (2^31 - 1) // 4; a value of 2 with the weight 100 is m steps, one of -1 with the weight 50 a quarter.
    assert fixed.most == 536870911
    vectors = [{"model": np.array([2.0, -1.0], np.float32), "norms": np.array([500.0], np.float32)} for _ in range(4)]
    assert fixed.words(vectors[0], 100.0).view("i4").tolist() == [536870911, -268435456, 536870911, 536870911]
    assert fixed.words(vectors[0], 50.0).view("i4").tolist() == [268435456, -134217728, 268435456, 268435456]
    # All at their limits do not overflow.
    means, weight = fixed.means(sum(fixed.words(each, 100.0) for each in vectors), {"model": 2, "norms": 1})
    assert weight == 400.0
    assert means["norms"].tolist() == [500.0]
    np.testing.assert_allclose(means["model"], [2.0, -1.0], atol=2 / 536870911)


@settings(max_examples=40)
@given(nodes=st.integers(1, 500), seed=st.integers(0, 2**32 - 1), bits=st.sampled_from([32, 64]))
def test_fixed_point_is_off_by_half_a_step_a_summand(nodes, seed, bits) -> None:
    rng = np.random.default_rng(seed)
    values, weights = rng.uniform(-3, 3, (nodes, 7)), rng.uniform(0.01, 9, nodes)
    fixed = Fixed({"model": 3.0}, nodes, bits, heaviest=9.0)
    total = np.zeros(8, f"u{bits // 8}")
    for row, weight in zip(values, weights, strict=True):
        total += fixed.words({"model": row}, float(weight))
    means, weight = fixed.means(total, {"model": 7})
    half = nodes / (2 * fixed.most)
    assert abs(weight - weights.sum()) <= 9 * half + 1e-12 * weights.sum()
    off = np.abs(means["model"] - weights @ values / weights.sum())
    assert off.max() <= 2 * 3 * half * 9 / weights.sum() + 1e-12


def test_what_does_not_fit_fixed_point_is_refused() -> None:
    fixed = Fixed({"model": 1.0}, summands=10)
    for value in (1.0001, np.nan, -np.inf):
        with pytest.raises(RecipeError, match=r"channel 'model' has a value of size .* takes 1 at most; clip it before"):
            fixed.words({"model": np.array([0.5, value])})
    for weight in (0.0, 1.5, np.nan):
        with pytest.raises(RecipeError, match="weight of"):
            fixed.words({"model": np.zeros(2)}, weight)
    with pytest.raises(MessageRefused, match="no weighted mean"):
        fixed.means(np.zeros(3, np.uint32), {"model": 2})


def test_what_a_node_sends_is_uniform_and_never_the_same() -> None:
    """The same zeros in every round: bytes are uniform (chi-square), and two rounds differ in all but as many words as chance allows."""
    sent = []
    for _ in range(12):
        turn = Round(4, count=20_000)
        turn.words = dict.fromkeys(turn.names, np.zeros(20_000, np.uint32))
        sent.append(turn.until_heard()[1]["node-001"])
    counts = np.bincount(np.concatenate(sent).view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    # 255 degrees of freedom: mean 255, variance 510. Six deviations are never seen by chance.
    assert abs(((counts - expected) ** 2 / expected).sum() - 255) < 6 * np.sqrt(510)
    for one, other in pairwise(sent):
        assert (one == other).sum() < 5
        assert abs(np.corrcoef(one, other)[0, 1]) < 6 / np.sqrt(20_000)


def test_secrets_do_not_come_from_seeded_streams() -> None:
    drawn = []
    for _ in range(2):
        np.random.seed(7)  # noqa: NPY002 - to show that it has no effect
        turn = Round(3)
        drawn.append((turn.keys()["node-000"].tobytes(), turn.run()[0].tolist()))
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] == drawn[1][1]


@settings(max_examples=10)
@given(secret=st.binary(min_size=16, max_size=16), other=st.binary(min_size=16, max_size=16))
def test_fewer_shares_than_the_threshold_fit_every_secret(secret, other) -> None:
    """For whatever secret there is a last share that makes it of the same two others.

    Adding 3 to all holders (in GF(2^128): bitwise) moves the polynomial so that putting shares together gives its value at 3.
    """
    first, second, third = (part.tobytes() for part in split(secret, 3, 3))
    last = combined([0 ^ 3, 1 ^ 3, 2 ^ 3], [other, first, second])
    assert combined([1, 2, 3], [first, second, last]) == other
    assert combined([1, 2, 3], [first, second, third]) == secret


def test_a_secret_comes_out_of_any_threshold_of_shares() -> None:
    parts = [part.tobytes() for part in split(b"sixteen bytes ok", 4, 7)]
    for holders in ([1, 2, 3, 4], [7, 5, 3, 1], [4, 6, 7, 2]):
        assert combined(holders, [parts[holder - 1] for holder in holders]) == b"sixteen bytes ok"
    assert combined([1, 2, 3], parts[:3]) != b"sixteen bytes ok"


def test_a_node_never_gives_both_shares_of_a_neighbour() -> None:
    turn = Round(8)
    heard, _ = turn.until_heard(gone=["node-007"])
    first = turn.revealed({"node-000": heard})["node-000"]
    without = Message(tables={"secure.heard": np.delete(heard.tables["secure.heard"], 1)})
    with pytest.raises(MessageRefused, match="asked for twice"):
        revealed(without, turn.mine["node-000"])
    np.testing.assert_array_equal(turn.revealed({"node-000": heard})["node-000"], first)
    # What was given: the self-masks' shares of those who were heard, and of the one who vanished the share of its key.
    held = np.asarray(turn.mine["node-000"]["secure.held"])
    np.testing.assert_array_equal(first, np.concatenate([held[:-1, 1], held[-1:, 0]]))


@pytest.mark.parametrize("nodes", [10, 20, 31])
def test_different_lists_for_different_nodes_give_neither_secret(nodes) -> None:
    """The exchange wants node-000 laid open: half its neighbours hear that it was heard, half that it vanished; corrupt ones tell both."""
    turn = Round(nodes)
    heard = turn.until_heard()[0].tables["secure.heard"]
    others, corrupt = turn.names[1:], nodes // 10
    honest = others[corrupt:]
    for half in range(len(honest) + 1):
        kinds = Counter(["mask"] * half + ["key"] * (len(honest) - half))
        assert min(kinds["mask"], kinds["key"]) + corrupt < terms_for(nodes, turn.assumed).threshold
    turn.revealed(dict.fromkeys(honest[::2], Message(tables={"secure.heard": heard})))
    turn.revealed(dict.fromkeys(honest[1::2], Message(tables={"secure.heard": heard[1:]})))
    given_ = [np.asarray(turn.mine[name]["secure.heard"])[0] == 0 for name in honest]
    assert min(sum(given_), len(given_) - sum(given_)) + corrupt < terms_for(nodes, turn.assumed).threshold


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], "strangers"),
        ([0, 1, 2, 3, 4, 5, 99], "strangers"),
        ([-1, 0, 1, 2, 3, 4, 5], "strangers"),
        ([0, 1, 2], "2 neighbours of this node are said to have been heard; it reveals nothing unless 4 were"),
        ([1, 0, 2, 3, 4, 5, 6], "not sorted"),
        ([[0, 1], [2, 3]], "not sorted"),
        (5, "not sorted"),
    ],
)
def test_lists_that_cannot_be_are_refused(heard, said) -> None:
    turn = Round(8)
    turn.heard(turn.masked(turn.until_parcels(gone=["node-007"])))
    with pytest.raises(MessageRefused, match=said):
        revealed(Message(tables={"secure.heard": np.array(heard)}), turn.mine["node-000"])


def test_steps_out_of_turn_are_refused() -> None:
    turn = Round(3)
    turn.keys()
    for step in (
        lambda: masked(Message(), turn.mine["node-000"], turn.words["node-000"]),
        lambda: revealed(Message(), turn.mine["node-000"]),
    ):
        with pytest.raises(MessageRefused, match="before its turn"):
            step()


def test_parcels_that_were_altered_are_named_and_nothing_is_sent() -> None:
    turn = Round(5)
    parcels = turn.until_parcels()["node-000"].tables
    altered = parcels["secure.shares"].copy()
    altered[2, 20] ^= 1
    with pytest.raises(MessageRefused, match=r"what node 'node-003' sealed .* does not open: it was altered"):
        masked(Message(tables={**parcels, "secure.shares": altered}), turn.mine["node-000"], turn.words["node-000"])
    swapped = parcels["secure.shares"][[1, 0, 2, 3]]
    with pytest.raises(MessageRefused, match="'node-001'"):
        masked(Message(tables={**parcels, "secure.shares": swapped}), turn.mine["node-000"], turn.words["node-000"])


@pytest.mark.parametrize(
    ("senders", "said"),
    [([1, 2, 3, 9], "strangers"), ([0, 1, 2, 3], "strangers"), ([1, 2, 2, 3], "two from one"), ([1], "1 neighbours sent")],
)
def test_parcels_of_strangers_or_too_few_are_refused(senders, said) -> None:
    turn = Round(5)
    parcels = turn.until_parcels()["node-000"].tables["secure.shares"][: len(senders)]
    told = Message(tables={"secure.from": np.array(senders), "secure.shares": parcels})
    with pytest.raises(MessageRefused, match=said):
        masked(told, turn.mine["node-000"], turn.words["node-000"])


def test_a_node_masks_once_in_a_round() -> None:
    """Other words under the same masks would give their difference away, other neighbours the masks one by one."""
    turn = Round(5)
    parcels = turn.until_parcels()
    first = turn.masked({"node-000": parcels["node-000"]})["node-000"]
    np.testing.assert_array_equal(turn.masked({"node-000": parcels["node-000"]})["node-000"], first)
    fewer = Message(tables={name: table[:-1] for name, table in parcels["node-000"].tables.items()})
    for inbox, words in ((parcels["node-000"], turn.words["node-001"]), (fewer, turn.words["node-000"])):
        with pytest.raises(MessageRefused, match="asked for twice"):
            masked(inbox, turn.mine["node-000"], words)


def test_an_exchange_that_tells_nodes_different_keys_is_noticed() -> None:
    """It gives node-001 keys of its own for node-002, to read what they share: no parcel between node-001 and the others opens."""
    turn = Round(6)
    keys = turn.keys()
    roll = turn.roll(keys)
    false = introduced({**keys, "node-002": advertise("node-002", {})[0].tables["secure.keys"]}, {}, SEED, turn.assumed)[0]
    others = [name for name in turn.names if name != "node-002"]
    parcels = turn.parcels(turn.shares({name: false if name == "node-001" else roll for name in turn.names}))
    for name in others:
        with pytest.raises(MessageRefused, match="the exchange told the two of them different keys; nothing was sent"):
            masked(parcels[name], turn.mine[name], turn.words[name])


def test_a_node_looks_for_its_own_keys_in_the_roll() -> None:
    turn = Round(4)
    keys = turn.keys()
    stolen = turn.roll({**keys, "node-000": keys["node-001"]})
    absent = turn.roll({name: keys[name] for name in turn.names[1:]})
    for roll in (stolen, absent):
        with pytest.raises(MessageRefused, match="has not the keys that node 'node-000' advertised"):
            share(roll, turn.mine["node-000"], SEED, turn.assumed)
    few = Roll(("node-000", "node-001"), np.stack([keys["node-000"], keys["node-001"]]), SEED, terms_for(3, USUAL)).message()
    with pytest.raises(MessageRefused, match="the secure sum's roll is too short: no secure sum of 2 nodes"):
        share(few, turn.mine["node-000"], SEED, turn.assumed)
    roll = turn.roll(keys)
    turn.shares({"node-000": roll})
    with pytest.raises(MessageRefused, match="asked for twice"):
        share(turn.roll({name: keys[name] for name in turn.names[:3]}), turn.mine["node-000"], SEED, turn.assumed)


@pytest.mark.parametrize(
    "names", ["[1, 2, 3]", '["node-001", "node-000"]', '["node-000", "node-000"]', "{}", "[", "[" * 100_000, '["node-000"]']
)
def test_rolls_that_are_none_are_refused(names) -> None:
    turn = Round(3)
    roll = turn.roll(turn.keys())
    for told in (roll._replace(facts={"secure.names": names}), roll._replace(tables={}), Message()):
        with pytest.raises(MessageRefused, match="roll"):
            share(told, turn.mine["node-000"], SEED, turn.assumed)


def test_a_public_key_that_is_none_is_refused() -> None:
    turn = Round(3)
    keys = turn.keys()
    with pytest.raises(MessageRefused, match="a public key that is none"):
        turn.shares({"node-000": turn.roll({**keys, "node-002": np.zeros((3, 32), np.uint8)})})


def test_too_few_survivors_end_a_round_with_a_clear_error() -> None:
    turn = Round(10)
    keys = turn.keys()
    sealed = turn.shares(dict.fromkeys(keys, turn.roll(keys)))
    with pytest.raises(TooFewNodes, match="5 of 10 shared their secrets: of the neighbours of node 'node-000' 4, and 6 are needed"):
        turn.parcels(dict(list(sealed.items())[:5]))
    words = turn.masked(turn.parcels(sealed))
    with pytest.raises(TooFewNodes, match="5 of 10 sent their words"):
        turn.heard(dict(list(words.items())[:5]))
    with pytest.raises(TooFewNodes, match="0 of 10 sent their words"):
        turn.heard({})
    parts = turn.revealed(dict.fromkeys(words, turn.heard(words)))
    with pytest.raises(TooFewNodes, match="5 of 10 revealed shares"):
        unmasked(dict(list(parts.items())[:5]), turn.ours)
    with pytest.raises(RecipeError, match="no secure sum of 2 nodes"):
        turn.roll(dict(list(keys.items())[:2]))


def test_messages_that_do_not_fit_count_as_absent() -> None:
    turn = Round(12)
    keys = turn.keys()
    keys["node-011"] = keys["node-011"][:2]
    sealed = turn.shares(dict.fromkeys(turn.names[:11], turn.roll(keys)))
    sealed["node-010"] = sealed["node-010"].astype(np.float64)
    words = turn.masked(turn.parcels(sealed))
    words["node-009"] = words["node-009"].astype(np.uint64)
    heard = turn.heard({**words, "stranger": words["node-000"]})
    parts = turn.revealed(dict.fromkeys(words, heard))
    parts["node-008"] = parts["node-008"][1:]
    total, _ = unmasked({**parts, "stranger": parts["node-000"]}, turn.ours)
    np.testing.assert_array_equal(total, np.sum([turn.words[name] for name in turn.names[:9]], axis=0, dtype=np.uint32))


def test_a_false_share_is_found_out() -> None:
    turn = Round(10)
    heard, words = turn.until_heard(gone=["node-009"])
    parts = turn.revealed(dict.fromkeys(words, heard))
    rng = np.random.default_rng(0)
    parts["node-001"] = rng.integers(0, 256, parts["node-001"].shape, np.uint8)
    plain = np.sum([turn.words[name] for name in words], axis=0, dtype=np.uint32)
    np.testing.assert_array_equal(unmasked(parts, turn.ours)[0], plain)
    for name in ("node-003", "node-005", "node-007"):
        parts[name] = rng.integers(0, 256, parts[name].shape, np.uint8)
    with pytest.raises(TooFewNodes, match="the secret of node 'node-000' does not come out of the 8 shares"):
        unmasked(parts, turn.ours)


@pytest.mark.parametrize(("nodes", "degree"), [(3, 2), (4, 3), (9, 4), (10, 9), (40, 12), (41, 12)])
def test_the_graph_is_regular_connected_and_everybodys_own(nodes, degree) -> None:
    names = [f"node-{i}" for i in range(nodes)]
    found = neighbours(names, degree, "a")
    graph = nx.Graph([(here, int(there)) for here, row in enumerate(found) for there in row])
    assert {count for _, count in graph.degree} == {degree}
    assert nx.number_of_selfloops(graph) == 0
    assert nx.node_connectivity(graph) == degree
    assert (np.diff(found, axis=1) > 0).all()
    np.testing.assert_array_equal(found, neighbours(names, degree, "a"))
    assert degree == nodes - 1 or (found != neighbours(names, degree, "b")).any()


@pytest.mark.parametrize("nodes", [64, 500])
@pytest.mark.parametrize(
    "assumed", [Assumed(), Assumed(0.1, 0.01), Assumed(0.3, 0.05, lies=False), Assumed(0.3, 0.0, lies=False, liveness=20)]
)
def test_degree_and_threshold_are_the_least_that_are_safe(nodes, assumed) -> None:
    """Against SciPy's law and products worked out one by one."""
    vanish, corrupt = int(assumed.vanish * nodes + 1e-9), int(assumed.corrupt * nodes + 1e-9)

    def safe(degree: int, threshold: int) -> bool:
        apart = nodes * (nodes - 1) / 2 * np.prod([max(vanish + corrupt - i, 0) / (nodes - i) for i in range(degree)])
        known = hypergeom(nodes - 1, corrupt, degree).sf((2 * threshold - degree if assumed.lies else threshold) - 1)
        lost = hypergeom(nodes - 1, vanish, degree).sf(degree - threshold)
        allowed = 2.0 ** -(assumed.security + 1)
        return bool(apart <= allowed and nodes * known <= allowed and nodes * lost <= 2.0**-assumed.liveness)

    degree, threshold = terms_for(nodes, assumed)
    assert safe(degree, threshold)
    assert not any(safe(degree - 2, fewer) for fewer in range(2, degree - 1))
    assert threshold == 2 or not safe(degree, threshold - 1)


def test_small_fleets_mask_with_all_and_leave_nothing_to_chance() -> None:
    for nodes in range(3, COMPLETE + 1):
        degree, threshold = terms_for(nodes, Assumed())
        vanish, corrupt = int(0.3 * nodes + 1e-9), nodes // 10
        assert degree == nodes - 1
        assert 2 * threshold > degree + corrupt
        assert threshold <= degree - vanish
    assert terms_for(20, Assumed()) == (19, 11)
    assert terms_for(20, Assumed(lies=False)) == (19, 11), "lies cost nothing here"
    with pytest.raises(RecipeError, match="no secure sum of 20 nodes bears 12 that vanish and 2 that are corrupt"):
        terms_for(20, Assumed(vanish=0.6))


def test_rolls_say_what_all_have_in_common() -> None:
    keys = Round(3).keys()
    roll = Roll.called(keys, SEED, Assumed())
    assert roll.digest == Roll.told(roll.message(), SEED, Assumed()).digest == Roll.kept(roll.memory()).digest
    assert roll.digest != Roll.called(keys, "another round", Assumed()).digest


@pytest.mark.parametrize(
    ("module", "lacking"), [("agreement", "cryptography.hazmat.primitives.ciphers"), ("shares", "Crypto.Protocol.SecretSharing")]
)
def test_what_is_not_installed_is_named(module, lacking, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, lacking, None)
    spec = importlib.util.spec_from_file_location("bare", Path(shares.__file__).with_name(f"{module}.py"))
    with pytest.raises(MissingExtra, match=r"vedette\[privacy\]"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))

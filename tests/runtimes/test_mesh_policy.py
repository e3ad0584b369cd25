"""What a node's owner allows: plans and pieces of work that ask for more are refused, in sentences that name the key."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import vedette
from hypothesis import given, settings
from hypothesis import strategies as st
from test_mesh_wire import JSON, places, replaced

from vedette.data.scaling import Scaling
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.classical import Pca
from vedette.detectors.dual_network import DualNetwork
from vedette.detectors.mlp import Mlp
from vedette.detectors.threshold import Quantile
from vedette.errors import RecipeError, UnknownName
from vedette.message import Message, Query, Vector
from vedette.runtimes.base import plan_of, stages_of
from vedette.runtimes.meetings import Attackers
from vedette.runtimes.mesh.policy import Policy, commented, read_policy, refusals, refuses
from vedette.runtimes.phase import Phase, run_of
from vedette.strategies.base import STRATEGIES
from vedette.strategies.fedavg import FedAvg
from vedette.strategies.gossip import GossipFedAvg
from vedette.strategies.mtad_fl import MtadFl
from vedette.strategies.p2pk_smote import P2pkSmote
from vedette.strategies.parameter_server import ParameterServer
from vedette.training.lowmem.trainer import LowmemTrainer
from vedette.training.task import Optimiser, Task, Work

PAGE = Path(__file__).parents[2] / "docs" / "policy.md"
CLASSIFIER = Mlp(hidden=(4,), scaling=Scaling(fit="federated"))
DUAL = DualNetwork(channels=(4, 6, 4), reduction=2, slots=4)
PLAN = plan_of(CLASSIFIER, FedAvg(rounds=20, epochs=2.0), 7)
VOTED = Mlp(hidden=(4,), scaling=Scaling(numbers="standard"), threshold=Quantile())
PRIVATE = plan_of(VOTED, FedAvg(chain=("clip", "noise"), privacy={"epsilon": 7.9}), 7)
OPEN = Policy(strategies="*", queries="*", tables="*", shares_rows=True)
EDGES = Path("nowhere/edges.csv")


def plan(**changes: Any) -> dict[str, Any]:
    return {**PLAN, **changes}


# Plans.


def test_the_default_takes_part_in_what_sends_weights_alone() -> None:
    assert refusals(PLAN, Policy(), width=40) == []
    assert refusals(json.loads(json.dumps(PLAN)), Policy()) == []
    assert refusals(plan_of(DUAL, MtadFl(), 7), Policy()) == []
    assert refusals(plan_of(Pca(), STRATEGIES["merge"](), 7), Policy()) == []
    assert refusals(plan_of(CLASSIFIER, P2pkSmote(), 7), Policy()) == [
        "the policy does not allow the strategy 'p2pk-smote' (strategies)",
        "strategy 'p2pk-smote' has rows leave the node, and the policy does not allow it (shares_rows)",
        "the policy does not allow the query 'k-smote' (queries)",
    ]


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"prepare", "calibrate"}))
def test_every_strategy_can_be_looked_at_beforehand(name: str) -> None:
    detector = Pca() if name == "merge" else DUAL if STRATEGIES[name]().channels and STRATEGIES[name]().channels[0].role else CLASSIFIER
    asked = plan_of(detector, STRATEGIES[name](), 7)
    assert refusals(asked, OPEN, width=40) == []
    assert refusals(asked, Policy(strategies=(), detectors=(), queries=(), most_rounds=0), width=40)


@pytest.mark.parametrize(
    ("asked", "policy", "sentence"),
    [
        (PLAN, {"strategies": "mtad-fl"}, "the policy does not allow the strategy 'fedavg' (strategies)"),
        (PLAN, {"strategies": ("fed*",)}, None),
        (PLAN, {"detectors": ("autoencoder",)}, "the policy does not allow the detector 'mlp' (detectors)"),
        (PLAN, {"trainers": ("lowmem",)}, "the policy does not allow the trainer 'cohort' (trainers)"),
        (PLAN, {"aggregators": ("median",)}, "the policy does not allow the aggregator 'mean' (aggregators)"),
        (PLAN, {"queries": ("scores", "inputs")}, "the policy does not allow the query 'scaling' (queries)"),
        (PLAN, {"most_rounds": 19}, "stage 'rounds' has 20 rounds, and the policy allows 19 (most_rounds)"),
        (PLAN, {"most_epochs": 1.5}, "a round of 'fedavg' is 2 epochs, and the policy allows 1.5 (most_epochs)"),
        (plan_of(CLASSIFIER, ParameterServer(rounds=3, steps=500), 7), {"most_steps": 499, "strategies": "*"}, "500 steps"),
        # Both networks of a node in each round; the second one in the end, for all rounds.
        (plan_of(DUAL, MtadFl(epochs=20.0), 7), {"most_epochs": 39.0}, "a round of 'mtad-fl' is 40 epochs"),
        (plan_of(DUAL, MtadFl(rounds=4, epochs=20.0, transfer="last"), 7), {}, "the end of 'mtad-fl' is 80 epochs"),
        (PLAN, {"most_epsilon": 8.0}, "something without noise, and the policy allows a privacy cost of 8 at most (most_epsilon)"),
        (PRIVATE, {"most_epsilon": 8.0}, None),
        (PRIVATE, {"most_epsilon": 2.0}, "and the policy allows 2 (most_epsilon)"),
        (PLAN, {"chain": ("mask",)}, "wants the chain of stage 'rounds' to have mask (chain)"),
        (plan_of(CLASSIFIER, FedAvg(), 7, attackers=Attackers(nodes=("b",))), {}, "allows no drills (drills)"),
        (plan_of(CLASSIFIER, FedAvg(), 7, attackers=Attackers(nodes=("b",))), {"drills": True}, None),
        (plan(topology={"name": "file", "path": str(EDGES)}), {}, "the name of a file that this machine would have to read"),
        (plan(topology={"name": "file", "path": str(EDGES), "edges": [["a", "b"]]}), {}, None),
    ],
)
def test_what_goes_beyond_the_policy_is_refused_with_its_key(
    asked: Mapping[str, Any], policy: Mapping[str, Any], sentence: str | None
) -> None:
    found = refusals(asked, Policy(**policy))
    if sentence is None:
        assert found == []
    else:
        assert len(found) == 1
        assert sentence in found[0]


def test_a_file_of_edges_is_never_looked_for() -> None:
    """Whether it is there cannot be told from the answer."""
    there, not_there = (refusals(plan(topology={"name": "file", "path": str(path)}), Policy()) for path in (Path(__file__), EDGES))
    assert there == not_there


def test_memory_is_parameters_times_what_the_optimiser_needs() -> None:
    # 5 x 4 + 4 of the hidden layer, 4 + 1 of the output: 29 parameters of 4 bytes.
    for optimiser, each in ((Optimiser(), 4), (Optimiser(name="sgd"), 2), (Optimiser(name="sgd", momentum=0.9), 3)):
        asked = plan_of(CLASSIFIER.model_copy(update={"optimiser": optimiser}), FedAvg(), 7)
        needed = 29 * 4 * each
        assert refusals(asked, Policy(most_memory=needed), width=5) == []
        (sentence,) = refusals(asked, Policy(most_memory=needed - 1), width=5)
        assert sentence == f"training takes {needed} bytes, and the policy allows {needed - 1} (most_memory)"
        # How wide samples are may not be known yet.
        assert refusals(asked, Policy(most_memory=0)) == []


def test_a_network_that_would_fill_the_machine_is_refused_before_it_is_made() -> None:
    asked = plan_of(Autoencoder(hidden=(10**6, 10**6)), FedAvg(), 7)
    (sentence,) = refusals(asked, Policy(), width=40)
    assert sentence.startswith("training takes 32,")


def test_a_trainer_with_a_budget_keeps_to_it_where_it_trains() -> None:
    policy = Policy(most_memory=100_000)
    for nodes, refused in (((), 0), (("another",), 1)):
        trainer = LowmemTrainer(memory_budget=100_000, nodes=nodes)
        assert len(refusals(plan_of(Mlp(hidden=(300, 300)), FedAvg(), 7, trainer=trainer), policy, width=40)) == refused


# Plans that are none.


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({}, "cannot be carried out here"),
        (plan(schema="vedette.plan/2"), "another version (schema 'vedette.plan/2', unknown keys [])"),
        (plan(hooks=["rm"]), "another version (schema 'vedette.plan/1', unknown keys ['hooks'])"),
        (plan(detector={"name": "os.system"}), "unknown detector 'os.system'"),
        (plan(detector={"name": "a\n\ud800\x1b[2J"}), r"a\n\ud800\x1b[2J"),
        (plan(detector={"name": "isolation-forest"}), "cannot be carried out here"),
        (plan(stages=PLAN["stages"][1:]), "has not the stages prepare, rounds, calibrate, but ['rounds', 'calibrate']"),
        (plan(stages=[{**part, "stage": "rows"} for part in PLAN["stages"]]), "but ['rows', 'rows', 'rows']"),
        (plan(stages=[*PLAN["stages"], PLAN["stages"][1]]), "but ['prepare', 'rounds', 'calibrate', 'rounds']"),
        (plan(stages=[{"stage": "prepare", "strategy": {"name": "p2pk-smote"}}, *PLAN["stages"][1:]]), "stage 'prepare' is 'p2pk-smote'"),
        (
            plan(stages=[{**PLAN["stages"][0], "strategy": {"name": "prepare", "rounds": 10**9}}, *PLAN["stages"][1:]]),
            "1,000,000,000 rounds",
        ),
    ],
)
def test_what_is_no_plan_of_this_version_is_refused(asked: Mapping[str, Any], sentence: str) -> None:
    found = refusals(asked, OPEN)
    assert any(sentence in one for one in found), found
    assert all(one.isprintable() for one in found)


@settings(derandomize=True, max_examples=300)
@given(st.sampled_from(list(places(json.loads(json.dumps(PLAN))))), JSON)
def test_whatever_stands_in_a_plan_is_answered_in_sentences(path: tuple[Any, ...], value: Any) -> None:
    found = refusals(replaced(json.loads(json.dumps(PLAN)), path, value), Policy(), width=5)
    assert all(isinstance(sentence, str) and 0 < len(sentence) < 400 and sentence.isprintable() for sentence in found)


# Work.


@pytest.mark.parametrize(
    ("work", "sentence"),
    [
        (Work(tasks=(Task(epochs=50.0),), queries={"data": Query("variance")}), None),
        (Work(tasks=(Task(epochs=50.0), Task("local", epochs=1.0))), "the work is 51 epochs, and the policy allows 50 (most_epochs)"),
        (Work(tasks=(Task(epochs=float("inf")),)), "the work is inf epochs"),
        (Work(tasks=(Task(epochs=float("nan")),)), "the work is nan epochs"),
        (Work(tasks=(Task(epochs=1e9, steps=10_000),)), None),
        (Work(tasks=(Task(steps=6000), Task(steps=6000))), "the work is 12,000 steps, and the policy allows 10,000 (most_steps)"),
        (Work(queries={"innocent": Query("k-smote")}), "the policy does not allow the query 'k-smote' (queries)"),
        (Work(tables={"received": np.zeros((2, 3))}), "the policy does not allow the table 'received' (tables)"),
    ],
)
def test_work_is_looked_at_by_itself(work: Work, sentence: str | None) -> None:
    found = refuses(work, Policy())
    assert found == sentence if sentence is None else found is not None and found.startswith(sentence)


def test_what_a_plan_could_not_tell_is_refused_when_it_comes() -> None:
    """Nodes try each other's networks once they have some, and train on points once they were given some."""
    run = run_of(plan_of(CLASSIFIER, GossipFedAvg(reputation=True), 7))
    vectors = {f"{channel}@b": Vector(np.zeros(1, np.float32), "x") for channel in ("model", "norms")}
    judging = Phase(run, run.stages[1], 0, "judge", ("a", "b")).work("a", Message(vectors), {})
    strict = Policy(queries=("scaling", "scores", "residuals", "inputs", "variance"))
    assert refusals(plan_of(CLASSIFIER, GossipFedAvg(reputation=True), 7), strict) == []
    assert refuses(judging, strict) == "the policy does not allow the query 'loss-of' (queries)"
    assert refuses(judging, Policy()) is None
    run = run_of(plan_of(CLASSIFIER, P2pkSmote(), 7))
    given = Message(tables={"received": np.zeros((2, 3), np.float32)})
    training = Phase(run, run.stages[1], 1, "train", ("a", "b")).work("a", given, {})
    assert refuses(training, Policy(queries="*")) == "the policy does not allow the table 'received' (tables)"
    assert refuses(training, OPEN) is None


def test_what_the_default_allows_is_what_runs_ask_for() -> None:
    """Scaling and calibration of all detectors: a plan that is accepted is not refused in its first round."""
    for detector in (CLASSIFIER, DUAL, Autoencoder(residual="mahalanobis"), Autoencoder(residual="variance")):
        asked = plan_of(detector, FedAvg(), 7)
        assert refusals(asked, Policy()) == []
        for stage in stages_of(asked)[1]:
            for phase in (*stage.strategy.phases, *stage.strategy.closing):
                assert refuses(Phase(run_of(asked), stage, 0, phase, ("a",)).work("a", Message(), {}), Policy()) is None


# The file.


@pytest.mark.parametrize("policy", [Policy(), OPEN, Policy(most_epsilon=2.5, most_epochs=0.5, detectors="a b")])
def test_what_is_printed_says_every_key_and_is_read_back(policy: Policy, tmp_path: Path) -> None:
    text = commented(policy)
    (tmp_path / "policy.toml").write_text(text)
    assert read_policy(tmp_path / "policy.toml") == policy
    for key in Policy.model_fields:
        before, _, _ = text.partition(f"{key} = ")
        assert before.removesuffix("# ").splitlines()[-1].startswith("# "), key
    assert tomllib.loads(text)["most_rounds"] == policy.most_rounds


def test_what_is_left_out_is_as_careful_as_the_default(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text('strategies = "fedavg"\n')
    assert read_policy(tmp_path / "policy.toml") == Policy(strategies=("fedavg",))


@pytest.mark.parametrize(
    ("content", "error", "line"),
    [
        (b"most_round = 3", UnknownName, "unknown key 'most_round' in .*policy.toml; did you mean 'most_rounds'"),
        (b"most_rounds = -1", RecipeError, r"policy.toml most_rounds: .* \(got -1\)"),
        (b"shares_rows = [1]", RecipeError, "policy.toml shares_rows: "),
        (b"strategies = 3", RecipeError, "policy.toml strategies: "),
        (b"most_rounds =", RecipeError, "policy.toml cannot be read as a policy"),
        (b"\xff", RecipeError, "policy.toml cannot be read as a policy"),
        (None, RecipeError, "policy.toml cannot be read as a policy"),
    ],
)
def test_a_policy_with_a_slip_is_none(content: bytes | None, error: type[Exception], line: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "policy.toml").write_bytes(content)
    with pytest.raises(error, match=line):
        read_policy(tmp_path / "policy.toml")


def test_the_page_shows_the_default_as_it_is() -> None:
    assert commented(Policy()) in PAGE.read_text(encoding="utf-8")


def test_the_policy_for_shared_points_allows_them(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(PAGE.read_text(encoding="utf-8").split("```toml\n")[2].partition("```")[0])
    policy = read_policy(tmp_path / "policy.toml")
    asked = plan_of(CLASSIFIER, P2pkSmote(), 7)
    assert refusals(asked, policy) == []
    run, given = run_of(asked), Message(tables={"received": np.zeros((2, 3), np.float32)})
    assert refuses(Phase(run, run.stages[1], 1, "train", ("a", "b")).work("a", given, {}), policy) is None
    assert refusals(PLAN, policy) == ["the policy does not allow the strategy 'fedavg' (strategies)"]


def test_the_command_prints_a_policy_and_holds_recipes_against_it(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    shown = vedette("policy", "show")
    file.write_text(shown.stdout)
    assert read_policy(file) == Policy()
    assert vedette("policy", "check", "demo", "--policy", file).returncode == 0
    gone = vedette("policy", "check", "demo", "--policy", str(tmp_path / "none.toml")).stderr
    assert gone == f"vedette: {tmp_path / 'none.toml'} cannot be read as a policy: No such file or directory [recipe]\n"
    file.write_text("most_rounds = 3\n")
    assert "most_rounds = 3\n" in vedette("policy", "show", "--policy", file).stdout
    refused = vedette("policy", "check", "demo", "--policy", file)
    assert refused.returncode == 2
    assert "refuses 'demo'" in refused.stderr
    assert "(most_rounds)" in refused.stderr

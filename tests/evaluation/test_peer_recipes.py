"""The recipes of learning among peers on small files in the official layouts: who holds what, and what stays in the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samples import put
from vedette.data.datasets.nbaiot import DEVICES, NAMES
from vedette.errors import RecipeError
from vedette.evaluation.experiment import Experiment, Result
from vedette.evaluation.recipe import load_recipe
from vedette.evaluation.report import write_report

SMALL = [
    "detector.hidden=[8]",
    "detector.batch_norm=false",
    "detector.dropout=0.0",
    "detector.optimiser.batch=8",
    "detector.optimiser.rate=0.01",
    "strategy.rounds=2",
    "strategy.epochs=1",
]
CHOICES = ("none", "oversample", "undersample", "smote", "fedavg", "p2pk-smote")
CAMERA, OTHER, BELL = "Provision_PT_838_Security_Camera", "SimpleHome_XCS7_1002_WHT_Security_Camera", "Danmini_Doorbell"
KINDS = {"mirai_attacks/scan": 8.0, "mirai_attacks/udp": 12.0, "mirai_attacks/ack": 10.0, "gafgyt_attacks/udp": 9.0}


def traffic(rows: int, at: float, seed: int) -> str:
    numbers = np.random.default_rng(seed).normal(at, 1, (rows, len(NAMES)))
    return "\n".join([",".join(NAMES), *(",".join(f"{value:.4f}" for value in row) for row in numbers), ""])


@pytest.fixture(scope="module")
def botnets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine devices with 60 benign rows and 40 of each of three attacks, each attack at a place of its own."""
    files: dict[str, str | bytes] = {}
    for number, device in enumerate(DEVICES):
        files[f"n-baiot/{device}/benign_traffic.csv"] = traffic(60, 0, number)
        for attack, at in KINDS.items():
            files[f"n-baiot/{device}/{attack}.csv"] = traffic(40, at, 100 + number)
    return put(tmp_path_factory.mktemp("botnets"), files)


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand flows of BoT-IoT in the order of their attacks, few of them benign."""
    head = "pkSeqID,proto,saddr,sport,daddr,dport,seq,stddev,N_IN_Conn_P_SrcIP,min,state_number,mean,N_IN_Conn_P_DstIP,drate,srate,max"
    rng = np.random.default_rng(5)
    lines = []
    for kind, said, rows in (
        ("Normal", "Normal", 60), ("DoS", "TCP", 150), ("DoS", "UDP", 150), ("DDoS", "UDP", 300), ("Reconnaissance", "Service_Scan", 300)
    ):  # fmt: skip
        at = ("Normal", "DoS", "DDoS", "Reconnaissance").index(kind)
        for row in rng.normal(4 * at, 1, (rows, 10)):
            numbers = [f"{value:.4f}" for value in row]
            lines.append(",".join(["1", "tcp", "10.0.0.1", "80", "10.0.0.2", "80", *numbers, str(int(at > 0)), kind, said]))
    table = "\n".join([f"{head},attack,category,subcategory", *lines, ""])
    return put(tmp_path_factory.mktemp("flows"), {"bot-iot/UNSW_2018_IoT_Botnet_Final_10_Best.csv": table})


def ran(name: str, folder: Path, *changes: str, protocols: tuple[str, ...] = ()) -> Result:
    return Experiment(load_recipe(name, changes=["seeds=1", *SMALL, *changes]), folder, protocols=protocols).run()


def pooled(result: Result) -> dict[str, dict[str, float]]:
    return {row["method"]: row for row in result.run["rows"] if row["node"] == "*" and row["split"] == "test"}


def page_of(result: Result, folder: Path) -> str:
    write_report(folder / "report.html", result.run, result.curves, result.traces, result.holdings, result.tradeoffs)
    return (folder / "report.html").read_text()


@pytest.mark.parametrize("scenario", ["s1", *(pytest.param(more, marks=pytest.mark.slow) for more in ("s2", "s3"))])
def test_scenarios_of_one_camera_scale_what_is_plenty_and_keep_what_is_rare(scenario: str, botnets: Path) -> None:
    few = {"a": "{normal = 9, anomaly = 9}", "b": "{normal = 9, anomaly = 9}", "c": "{normal = 9, anomaly = 9}"}
    rows = {"s1": few, "s2": {**few, "a": "{normal = 90, anomaly = 2}"}, "s3": {**few, "a": "{normal = 2, anomaly = 90}"}}[scenario]
    said = "{ " + ", ".join(f"{node} = {wanted}" for node, wanted in rows.items()) + " }"
    even = "{ " + ", ".join(f"{node} = {wanted}" for node, wanted in few.items()) + " }"
    result = ran(f"p2pk-smote-{scenario}", botnets, f"partition.rows={said}", f"partition.tests={even}", "protocols.published.test=0.5")
    held = {holding.node: (holding.normal, holding.anomalous) for holding in result.holdings}
    assert min(held["a"]) == (9 if scenario == "s1" else 2)
    assert result.run["data"]["rows_test"] == 54, "the rows that are tested, not all that were left"
    figures = pooled(result)
    assert set(CHOICES) <= set(figures)
    if scenario == "s1":
        assert figures["fedavg"]["auc_roc"] > 0.9  # what is there to be found can be found
    # What is followed ends with what stands in the table.
    followed = {entry["method"]: entry for entry in result.run["followed"]}
    for name in CHOICES:
        assert followed[name]["rounds"] == [1, 2]
        assert followed[name]["nodes"]["*"]["f1"][-1] == pytest.approx(figures[name]["f1"])


@pytest.mark.slow
def test_every_client_another_device_is_tested_on_all_of_them(botnets: Path, tmp_path: Path) -> None:
    devices = zip("abc", (CAMERA, OTHER, BELL), strict=True)
    rows = ", ".join(f'{node} = {{ group = "{device}", normal = 20, anomaly = 5 }}' for node, device in devices)
    tests = '{"partition.tests" = { "*" = { normal = 30, anomaly = 30 } }}'
    result = ran("p2pk-smote-s4", botnets, f"partition.rows={{ {rows} }}", f"protocols.balanced.set={tests}")
    about = result.run["data"]
    assert (about["rows_test"], about["anomalies_test"]) == (60, 30)
    (shared,) = result.run["sharing"]
    assert set(shared["nodes"]) == {"a", "b", "c"}
    for facts in shared["nodes"].values():
        # Two rounds, 15 points each to make 20 of 5; a tenth of them, rounded, is sent.
        assert (facts["made"], facts["minority"]) == (30, 5)
        assert facts["shared"] <= 4
    assert {entry["method"] for entry in result.run["topologies"]} == {*CHOICES} - {"fedavg"}
    page = page_of(result, tmp_path)
    for words in ("Round by round", "What left the nodes", "Who hears whom"):
        assert words in page


def test_in_the_hardest_scenario_a_client_sees_one_family_alone(botnets: Path) -> None:
    recipe = load_recipe("p2pk-smote-s4")
    for protocol in ("one-family", "printed-rate", "raw"):
        rows = recipe.under(protocol).partition.rows  # type: ignore[attr-defined]
        assert [set(wanted.kinds) for wanted in rows.values()] == [{"mirai-scan"}, {"mirai-udp"}, {"mirai-ack"}]
        assert not any(wanted.anomaly for wanted in rows.values())
    assert recipe.under("printed-rate").variant("p2pk-smote").optimiser.rate == 1e-5  # type: ignore[attr-defined]
    assert recipe.under("raw").detector.scaling.numbers == "none"


@pytest.mark.parametrize("scenario", ["s2", "s4"])
def test_bot_iot_where_benign_rows_are_rare(scenario: str, flows: Path) -> None:
    kinds = {"s2": ["anomaly = 90"] * 3, "s4": [f'kinds = {{ "{kind}" = 90 }}' for kind in ("Reconnaissance-Service_Scan", "DoS", "DDoS")]}
    rows = ", ".join(f"{node} = {{ normal = 6, {wanted} }}" for node, wanted in zip("abc", kinds[scenario], strict=True))
    tests = (
        '"*" = { normal = 20, anomaly = 100 }' if scenario == "s4" else ", ".join(f"{n} = {{ normal = 6, anomaly = 40 }}" for n in "abc")
    )
    changes = ["data.check=false", f"partition.rows={{ {rows} }}", f"partition.tests={{ {tests} }}", "detector.optimiser.rate=0.01"]
    result = ran(f"p2pk-smote-{scenario}-botiot", flows, *changes)
    figures = pooled(result)
    assert set(CHOICES) <= set(figures)
    # Here the rarer class that points are made of is the benign one.
    (shared,) = result.run["sharing"]
    assert all((facts["made"], facts["minority"]) == (168, 6) for facts in shared["nodes"].values())


@pytest.mark.slow
def test_a_drill_names_those_who_sabotage(botnets: Path, tmp_path: Path) -> None:
    names = ("undisturbed", "scaled", "nan", "benign-mimic")
    result = ran("poison-drill", botnets, 'methods=["flag-all", "mean", "multi-krum"]', protocols=names)
    found = {(row["protocol"], row["method"]): row for row in result.run["rows"] if row["node"] == "*"}
    assert found["undisturbed", "mean"]["fnr"] < 0.05
    assert found["scaled", "multi-krum"]["fnr"] < 0.05
    attackers = set(load_recipe("poison-drill").attackers.nodes)
    # Compromised devices are not scored, and seven others are.
    assert {row["node"] for row in result.run["rows"]} == {"*", *DEVICES} - attackers
    told = {(entry["protocol"], entry["method"]): entry for entry in result.run["trust"]}
    assert set(told["scaled", "multi-krum"]["suspected"]) == attackers
    assert set(told["nan", "mean"]["refused"]) == attackers
    assert ("undisturbed", "mean") not in told
    assert "Missed alarms" in page_of(result, tmp_path)


@pytest.mark.slow
def test_evasion_is_tried_on_all_classifiers(botnets: Path) -> None:
    result = ran("evasion-drill", botnets, 'evasions=[{name = "pgd", budget = 0.0}, {name = "fgsm", budget = 0.5}]')
    tried = result.run["evasions"]
    assert {entry["method"] for entry in tried} == {"plain", "hardened-fgsm", "hardened-pgd"}
    assert {entry["node"] for entry in tried} == set(DEVICES)
    for entry in tried:
        assert entry["anomalies"] > 0
        assert entry["missed_after"] == entry["missed"] if not entry["budget"] else entry["missed_after"] >= entry["missed"]
    missed = {row["node"]: row["fnr"] * row["anomalies"] for row in result.run["rows"] if row["method"] == "plain" and row["node"] != "*"}
    for entry in tried:
        if entry["method"] == "plain":
            assert entry["missed"] == pytest.approx(missed[entry["node"]])


@pytest.mark.slow
def test_graphs_are_compared_on_the_same_rows(botnets: Path, tmp_path: Path) -> None:
    few = [f"protocols.peers-{count}.sample=0" for count in (5, 10, 20, 50, 100)]
    result = ran(
        "topology-study", botnets, *few, "partition.min_rows=1", "partition.alpha=5.0", protocols=("peers-5", "peers-10", "peers-20")
    )
    assert {name: about["nodes"] for name, about in result.run["data"]["protocols"].items()} == {
        "peers-5": 5,
        "peers-10": 10,
        "peers-20": 20,
    }
    graphs = {(entry["protocol"], entry["method"]): entry for entry in result.run["topologies"]}
    assert graphs["peers-10", "ring"]["edges"] == 10
    assert graphs["peers-10", "full"]["edges"] == 45
    assert graphs["peers-10", "star"]["seen_by"] == {"mean": pytest.approx(1.8), "most": 9}
    assert graphs["peers-20", "regular"]["seen_by"]["mean"] == 4
    # All hear all: the same as with a server, to the bit.
    by = {(row["protocol"], row["method"]): row["f1"] for row in result.run["rows"] if row["node"] == "*"}
    assert by["peers-10", "full"] == by["peers-10", "server"]
    assert "<svg" in page_of(result, tmp_path)


def test_an_attacker_that_is_no_node_is_named(botnets: Path) -> None:
    with pytest.raises(RecipeError, match=r"attackers\.nodes: there is no node 'Ecobee_Thermostats'; did you mean 'Ecobee_Thermostat'"):
        ran("poison-drill", botnets, 'attackers.nodes=["Ecobee_Thermostats"]', protocols=("undisturbed",))

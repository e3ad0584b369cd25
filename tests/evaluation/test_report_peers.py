"""What the report says of learning among peers: round by round, who was trusted, what left, who hears whom, protocol by protocol."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pages import HOSTILE, harmless, make_run, written
from vedette.evaluation import plots
from vedette.evaluation.plots.rounds import mean_of_rows
from vedette.evaluation.report import write_report
from vedette.evaluation.report.evasions import evasions_of
from vedette.evaluation.report.protocols import growth_of, protocols_of
from vedette.evaluation.report.rounds import courses_of, rounds_of
from vedette.evaluation.report.trust import trust_of

KEYS = ("fnr", "fpr", "precision_at_recall_75", "recall_at_precision_75", "auc_roc", "f1")
HEADINGS = ("Round by round", "Who was trusted", "What left the nodes", "Who hears whom", "Missed alarms, protocol by protocol", "From few")


def about(method: str = "gossip", protocol: str = "strict", seed: int = 7, fold: str = "") -> dict[str, Any]:
    return {"method": method, "protocol": protocol, "seed": seed, "fold": fold}


def followed(by_node: dict[str, list[float | None]], shared: bool = False, **where: Any) -> dict[str, Any]:
    """Follow one course of F1 for each node; the share missed is what is left of it."""
    nodes = {
        node: {key: [None if v is None else 1 - v if key in ("fnr", "fpr") else v for v in f1] for key in KEYS}
        for node, f1 in by_node.items()
    }
    length = max(map(len, by_node.values()))
    return {**about(**where), "shared": shared, "rounds": list(range(1, length + 1)), "nodes": nodes}


def trusted(counted: dict[str, float], suspected: list[str], attackers: list[str] | None = None, **where: Any) -> dict[str, Any]:
    refused = where.pop("refused", {})
    return {**about(**where), "counted": counted, "refused": refused, "suspected": suspected, "attackers": attackers or []}


def topology(edges: list[list[str]] | None, name: str = "ring", nodes: int = 3, **where: Any) -> dict[str, Any]:
    sent = where.pop("bytes", 1_500_000)
    count = len(edges) if edges else 7
    return {
        **about(**where),
        "name": name,
        "nodes": nodes,
        "edges": count,
        "graph": edges,
        "seen_by": {"mean": 1.5, "most": 2},
        "bytes": sent,
    }


def peers_run(nodes: tuple[str, ...] = ("a", "b", "c"), **changed: Any) -> dict[str, Any]:
    run = make_run(nodes, ("flag-all", "local", "gossip"), (7, 8))
    rounds = [followed({"*": [0.5, 0.5], **{node: [0.6, 0.9] for node in nodes}}, seed=seed) for seed in (7, 8)]
    facts = {"made": 1000.0, "close": 40.0, "shared": 100.0, "minority": 400.0, "membership": 0.51}
    rest = {
        "followed": rounds,
        "trust": [trusted(dict.fromkeys(nodes, 0.9), [], seed=seed) for seed in (7, 8)],
        "sharing": [{**about(), "nodes": {node: dict(facts) for node in nodes}}],
        "topologies": [topology([[one, other] for one, other in itertools.pairwise(nodes)], nodes=len(nodes))],
    }
    stored: dict[str, Any] = json.loads(json.dumps(run | rest | changed))
    return stored


def run_with(**parts: Any) -> dict[str, Any]:
    """Make a run that has some of these parts alone: figures take longest."""
    return peers_run(**{"followed": [], "trust": [], "sharing": [], "topologies": [], **parts})


def drill(seeds: tuple[int, ...] = (7,), methods: tuple[str, ...] = ("mean", "median", "krum")) -> dict[str, Any]:
    """Make a run with a protocol an attack, in which node b attacks except where it is undisturbed."""
    attacks = ("undisturbed", "sign-flip", "nan")
    run = make_run(("a", "b", "c"), ("flag-all", *methods), seeds, attacks)
    run["data"]["protocols"] = {name: {"nodes": 3} for name in attacks}
    run["settings"] = {
        "attackers": {"nodes": ["b"], "attack": {"name": "none"}},
        "protocols": {name: {"set": {} if name == "undisturbed" else {"attackers.attack": {"name": name}}} for name in attacks},
    }
    for row in run["rows"]:
        row["fnr"] = 0.875 if (row["method"], row["protocol"]) == ("mean", "sign-flip") else 0.002
        row["fpr"] = 0.0313
    return run


def test_an_older_run_has_none_of_these_parts(tmp_path: Path) -> None:
    text = written(tmp_path, make_run()).text
    assert not [heading for heading in HEADINGS if heading in text]
    text = written(tmp_path, make_run() | dict.fromkeys(("followed", "trust", "sharing", "topologies"))).text
    assert not [heading for heading in HEADINGS if heading in text]


def test_every_part_stands_where_there_is_something_to_say(tmp_path: Path) -> None:
    page = written(tmp_path, peers_run())
    harmless(page)
    for heading in HEADINGS[:4]:
        assert heading in page.text
    assert "Missed alarms, protocol" not in page.text  # one protocol
    for panel in (
        "Missed (FNR)",
        "False alarms (FPR)",
        "Precision where 75 % are found",
        "Found where 75 % of alerts are right",
        "ROC-AUC",
    ):
        assert panel in page.text
    sizes = [float(size) for size in re.findall(r"<text[^>]*font-size: ([\d.]+)px", page.source)]
    assert min(sizes) >= 11


def test_names_from_users_cannot_leave_their_place(tmp_path: Path) -> None:
    nodes = (*HOSTILE, "quiet")
    run = peers_run(nodes)
    run["trust"] = [trusted(dict.fromkeys(nodes, 0.9), list(HOSTILE[:3]), refused={node: node for node in HOSTILE})]
    page = written(tmp_path, run)
    harmless(page)
    for shown in ("<script>alert(1)</script>", "$x^2$ and $\\alpha", "{{ 7*7 }}", "a b��c"):
        assert shown in page.text
    assert page.closed == len(page.tags) - page.tags.count("meta") - page.tags.count("input")


def test_lines_are_means_of_the_nodes_and_pooled_figures_where_they_stand_alone() -> None:
    run = [
        followed({"*": [0.1, 0.1], "a": [0.5, 0.75], "b": [1.0, None]}, seed=7),
        followed({"*": [0.1, 0.1], "a": [0.0, 0.25], "b": [0.5, 0.75]}, seed=8),
        followed({"*": [0.25, 0.5, 0.75]}, method="server"),
    ]
    gossip, server = courses_of(run)
    assert (gossip.method, gossip.rounds) == ("gossip", [1, 2])
    np.testing.assert_allclose(gossip.values["f1"], [[0.75, 0.75], [0.25, 0.5]])
    np.testing.assert_allclose(gossip.values["fnr"], [[0.25, 0.25], [0.75, 0.5]])
    np.testing.assert_allclose(server.values["f1"], [[0.25, 0.5, 0.75]])
    np.testing.assert_allclose(mean_of_rows(np.array([[1.0, np.nan], [2.0, np.nan]])), [1.5, np.nan])


def test_folds_of_a_seed_are_averaged_and_are_no_seeds_of_their_own() -> None:
    (course,) = courses_of([followed({"a": [0.2]}, fold="x"), followed({"b": [0.6]}, fold="y")])
    np.testing.assert_allclose(course.values["f1"], [[0.4]])


def heights(figure: str, colour: str) -> list[list[float]]:
    """Return the upright places of every line of a colour, in pixels from the top."""
    paths = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: none; stroke: {colour}', figure)
    return [[float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", path)] for path in paths]


def test_misses_fall_and_quality_rises_and_nothing_is_cut() -> None:
    looks = plots.styles(["gossip"])
    (course,) = courses_of([followed({"a": [0.0, 0.5, 0.99, 0.999, 1.0]})])
    figure = plots.round_figure([course], looks)
    lines = heights(figure, looks["gossip"].colour.lower())
    assert len(lines) == 6
    for place, line in enumerate(lines):
        # Down the page is down the axis: two panels of misses, four of quality.
        assert line == sorted(line, reverse=place >= 2)
        # Each step is seen, though values span three decades: the axis is stretched near perfect.
        assert min(abs(one - other) for one, other in itertools.pairwise(line)) > 4
        top = 30 + 246 * (place // 3)
        assert top < min(line) < max(line) < top + 166  # inside, not on the border
    assert "99.9 %" in figure


def test_a_perfect_run_and_one_without_figures_are_drawn() -> None:
    looks = plots.styles(["gossip"])
    (perfect,) = courses_of([followed({"a": [1.0, 1.0]})])
    assert {round(y) for line in heights(plots.round_figure([perfect], looks), looks["gossip"].colour.lower()) for y in line}
    (unknown,) = courses_of([followed({"a": [None, None]})])
    assert plots.round_figure([unknown], looks).startswith("<svg")
    (single,) = courses_of([followed({"a": [0.5]})])
    assert plots.round_figure([single], looks).startswith("<svg")


@pytest.mark.slow
def test_nodes_are_folded_away_and_the_worst_of_many_are_drawn() -> None:
    by_node: dict[str, list[float | None]] = {f"node-{i:02d}": [0.5, 0.5 + 0.01 * i] for i in range(20)}
    run = {"followed": [followed(by_node)]}
    (part,) = rounds_of(run, plots.styles(["gossip"]))
    assert (part["nodes"], part["drawn"]) == (20, 12)
    assert ">node-00<" in part["of_nodes"]
    assert ">node-11<" in part["of_nodes"]
    assert ">node-12<" not in part["of_nodes"]
    many = [followed(by_node, protocol=f"p{i}") for i in range(9)]
    assert [part["of_nodes"] for part in rounds_of({"followed": many}, plots.styles(["gossip"]))] == [None] * 9


@pytest.mark.slow
def test_one_detector_for_all_nodes_stands_beside_each_of_them(tmp_path: Path) -> None:
    run = [
        followed({"*": [0.5, 0.7], "a": [0.5, 0.7], "b": [0.5, 0.7]}, shared=True),
        followed({"*": [0.9, 0.9]}, shared=True, method="server"),
    ]
    looks = plots.styles(["gossip", "server"])
    (part,) = rounds_of({"followed": run}, looks)
    assert len(heights(part["of_nodes"], looks["server"].colour.lower())) == 12  # two nodes, six panels
    run[1]["shared"] = False
    (part,) = rounds_of({"followed": run}, looks)
    assert not heights(part["of_nodes"], looks["server"].colour.lower())
    page = written(tmp_path, make_run(methods=("flag-all", "gossip", "server"), followed=[*run, followed({"a": [0.1]}, method="flag-all")]))
    assert "<details><summary>The same of each node</summary>" in page.source


@pytest.mark.slow
def test_very_many_figures_leave_the_page_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    entries = []
    for method, protocol, seed in itertools.product([f"m{i}" for i in range(10)], ("p", "q"), (1, 2)):
        entries.append(followed({f"n{i:02d}": rng.random(300).tolist() for i in range(30)}, method=method, protocol=protocol, seed=seed))
    page = written(tmp_path, make_run(followed=entries))
    harmless(page)
    assert "The same of each node: 12 of 30, those with the lowest F1 at the end" in page.text


def test_who_counted_for_little_is_named_in_a_sentence(tmp_path: Path) -> None:
    seeds = [trusted({"a": 0.9, "b": 0.1, "c": 0.9}, ["b"]), trusted({"a": 0.9, "b": 0.1, "c": 0.2}, ["b", "c"], seed=8)]
    text = written(tmp_path, run_with(trust=seeds)).text
    assert "gossip: b and c (in 1 of 2 seeds) counted for less than half of what the others did: look at them." in text
    assert "attackers" not in text[text.index("Who was trusted") :]
    text = written(tmp_path, run_with(trust=[trusted({"a": 0.9, "b": 0.9}, [])])).text
    assert "gossip: no node counted for less than half of what the middle one did, nobody stands out." in text
    text = written(tmp_path, run_with(trust=[trusted({"a": 1.0, "b": 0.0, "c": 0.0}, [])])).text
    assert "gossip: most nodes never counted, only a did, so nobody can be named by it." in text


def test_who_was_refused_is_named_with_the_reason(tmp_path: Path) -> None:
    refused = {"b": "node 'b' sends parameters that are not finite", "c": "too heavy"}
    page = written(tmp_path, run_with(trust=[trusted({"a": 0.9}, ["b", "c"], refused=refused)]))
    assert "gossip: b and c sent what cannot be used and were left out." in page.text
    assert "<li>node &#39;b&#39; sends parameters that are not finite</li>\n<li>c: too heavy</li>" in page.source


def test_a_drill_of_few_cases_counts_whom_it_named(tmp_path: Path) -> None:
    run = drill((7, 8), ("median",))
    for protocol, seed in itertools.product(("undisturbed", "sign-flip"), (7, 8)):
        named = ["a", "b"] if seed == 8 else ["b"]
        entry = trusted({"a": 0.5, "b": 0.1, "c": 0.9}, named, ["b"], method="median", protocol=protocol, seed=seed)
        run.setdefault("trust", []).append(entry)
    text = written(tmp_path, run).text
    assert "Named: 1 of 1 attackers, 0.5 of 2 honest nodes, mean over seeds." in text
    # Where nobody attacks, nobody is an attacker: who is named there is named wrongly.
    cases = trust_of(run)
    assert cases is not None
    assert [sentence.count("Named:") for sentence in cases["sentences"]] == [0, 1]
    assert "0.10, attacker, named" in cases["figure"]
    assert "0.50, named" in cases["figure"]


def test_a_drill_of_many_cases_is_a_table(tmp_path: Path) -> None:
    run, methods = drill(), ("mean", "median", "krum")
    run["trust"] = [
        trusted({"a": 0.9, "b": 0.1, "c": 0.9}, ["a"] if method == "krum" else ["b"], ["b"], method=method, protocol=protocol)
        for method, protocol in itertools.product(methods, ("undisturbed", "sign-flip", "nan"))
        if (method, protocol) != ("mean", "sign-flip")
    ]
    page = written(tmp_path, run)
    section = page.source[page.source.index('<section id="trust">') :]
    section = section[: section.index("</section>")]
    assert "<svg" not in section
    rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', section)
    cells = {name: [re.sub(r"<[^>]+>", "|", cell).strip("|") for cell in re.findall(r"<td.*?</td>", row)] for name, row in rows}
    assert list(cells) == ["undisturbed", "sign-flip", "nan"]  # the recipe's order
    assert re.findall(r'<th scope="col">(.*?)</th>', section) == ["Attack", "krum", "mean", "median"]
    assert cells["undisturbed"] == ["no attack|honest: 1 of 3"] * 3
    assert cells["sign-flip"] == ["0 of 1||honest: 1 of 2", "–", "1 of 1||honest: 0 of 2"]


def test_nodes_of_which_nothing_but_a_refusal_is_known_are_honest_too() -> None:
    run = drill()
    run["trust"] = [trusted({}, ["b"], ["b"], method="mean", protocol="nan", refused={"b": "nan"})]
    found = trust_of(run)
    assert found is not None
    assert found["figure"] is None
    assert found["sentences"] == ["mean: b sent what cannot be used and was left out. Named: 1 of 1 attackers, 0 of 2 honest nodes."]


def test_what_left_the_nodes_is_counted(tmp_path: Path) -> None:
    nodes = {
        "a": {"made": 1000.0, "close": 20.0, "shared": 100.0, "minority": 400.0, "membership": 0.52},
        "b": {"made": 500.0, "close": 0.0, "shared": 50.0, "minority": 400.0, "membership": 0.8},
        "c": {"made": 500.0, "close": 480.0, "shared": 0.0, "minority": 6.0, "membership": 0.8},
        "d": {"made": 0.0, "close": 0.0, "shared": 0.0, "minority": 1.0, "membership": None},
    }
    page = written(tmp_path, run_with(sharing=[{**about(), "nodes": nodes}]))
    assert "The 4 nodes made up 2,000 points in all rounds together and sent 150 of them (7.5 %); 500 were held back" in page.text
    assert '<th scope="row">b</th><td>500</td><td>0</td><td>50</td><td>400</td><td>0.80</td>' in page.source
    assert "<td>1</td><td>–</td>" in page.source
    # 0.8 of 400 rows is no chance (0.5 + 2 × 0.029); of 6 rows it may well be (0.5 + 2 × 0.25).
    assert "Look at b: whoever holds the points can tell" in page.text
    bare = written(tmp_path, run_with(sharing=[{**about(), "nodes": {"a": {"made": None}, "b": {}}}]))
    assert '<th scope="row">b</th><td>–</td><td>–</td><td>–</td><td>–</td><td>–</td>' in bare.source


def test_of_very_many_nodes_those_who_sent_most_are_listed(tmp_path: Path) -> None:
    nodes = {f"n{i:03d}": {"made": 10.0, "close": 0.0, "shared": float(i), "minority": 5.0} for i in range(100)}
    page = written(tmp_path, run_with(sharing=[{**about(), "nodes": nodes}]))
    assert '<th scope="row">n060</th>' in page.source
    assert '<th scope="row">n059</th>' not in page.source
    assert "60 nodes that sent less are left out" in page.text


def test_a_graph_that_methods_share_is_drawn_and_listed_once(tmp_path: Path) -> None:
    ring = [["a", "b"], ["b", "c"], ["a", "c"]]
    listed = [topology(ring), topology(ring, method="other", bytes=3_000_000), topology([["a", "b"], ["a", "c"]], "star", method="third")]
    page = written(tmp_path, run_with(topologies=listed))
    assert page.text.count("ring, 3 nodes") == 1
    row = '<th scope="row">ring</th><td>3</td><td>3</td><td>2</td><td>1.5 of 2</td><td>2</td><td>1.5 MB to 3.0 MB</td>'
    assert f'{row}<td class="left">gossip, other</td>' in page.source
    assert '<th scope="row">star</th><td>3</td><td>2</td><td>1.33</td>' in page.source


def test_a_graph_too_large_to_draw_is_told_in_numbers(tmp_path: Path) -> None:
    empty = topology(None, "full", 100, bytes=None) | {"seen_by": {"mean": None, "most": None}}
    page = written(tmp_path, run_with(topologies=[empty]))
    section = page.source[page.source.index('<section id="topologies">') :]
    assert "<svg" not in section[: section.index("</section>")]
    assert '<th scope="row">full</th><td>100</td><td>7</td><td>0.14</td><td>–</td><td>–</td><td>–</td>' in page.source


def test_a_ring_is_drawn_round_whatever_its_nodes_are_called() -> None:
    names = [f"n{(7 * i) % 11}" for i in range(11)]
    edges = [(names[i], names[(i + 1) % 11]) for i in range(11)]
    figure = plots.graph_figure([plots.Graph("ring", edges)])
    lines = re.findall(r'd="M ([\d.]+) ([\d.]+) +L ([\d.]+) ([\d.]+) +" clip-path', figure.replace("\n", " "))
    lengths = [np.hypot(float(x1) - float(x0), float(y1) - float(y0)) for x0, y0, x1, y1 in lines]
    assert len(lengths) == 11
    assert max(lengths) - min(lengths) < 0.1  # no line across


def test_a_hub_stands_in_the_middle() -> None:
    figure = plots.graph_figure([plots.Graph("star", [("z", other) for other in "abcdef"])])
    lines = re.findall(r'd="M ([\d.]+) ([\d.]+) +L ([\d.]+) ([\d.]+) +" clip-path', figure.replace("\n", " "))
    lengths = [np.hypot(float(x1) - float(x0), float(y1) - float(y0)) for x0, y0, x1, y1 in lines]
    assert len({round(length) for length in lengths}) == 1
    assert len({(x0, y0) for x0, y0, _, _ in lines}) == 1


def test_misses_are_laid_side_by_side_in_the_recipes_order(tmp_path: Path) -> None:
    page = written(tmp_path, drill())
    harmless(page)
    assert "Missed alarms, protocol by protocol" in page.text
    assert (
        "At its worst krum misses 0.20 % of the anomalous readings (undisturbed), the fewest of all; its false alarms reach 3.1 % of the "
        "normal ones. At its worst mean misses 87.5 % of the anomalous readings (sign-flip)." in page.text
    )
    found = protocols_of(drill())
    assert found is not None
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", found["figure"])
    assert [text for text in texts if text in ("undisturbed", "sign-flip", "nan")] == ["undisturbed", "sign-flip", "nan"] * 2
    assert [text for text in texts if re.fullmatch(r"[\d.]+", text)].count("87.5") == 1
    assert texts.count("0.20") == 8
    assert texts.count("3.13") == 9


@pytest.mark.parametrize("changed", [{"protocols": 2}, {"leak": [{"method": "local"}]}, {"methods": ("flag-all", "random")}])
def test_nothing_is_laid_side_by_side_without_need(changed: dict[str, Any]) -> None:
    run = make_run(methods=changed.get("methods", ("local",)), protocols=("p", "q", "r")[: changed.get("protocols", 3)])
    assert protocols_of(run | {"leak": changed.get("leak")}) is None
    assert protocols_of(make_run(methods=("local",), protocols=("p", "q", "r"))) is not None


def test_what_is_not_known_is_a_dash() -> None:
    run = drill()
    for row in run["rows"]:
        row["fnr"] = None if row["method"] == "median" else row["fnr"]
    found = protocols_of(run)
    assert found is not None
    assert re.findall(r"<text[^>]*>([^<]*)</text>", found["figure"]).count("–") == 3


def growing(f1: dict[int, dict[str, list[float | None]]]) -> dict[str, Any]:
    """Make a run with a protocol a number of nodes, and these courses of F1 by method."""
    protocols, methods = tuple(f"peers-{nodes}" for nodes in f1), tuple(next(iter(f1.values())))
    run = make_run(("a",), methods, (7,), protocols)
    run["data"]["protocols"] = {f"peers-{nodes}": {"nodes": nodes} for nodes in f1}
    run["followed"] = [followed({"a": course}, method=m, protocol=f"peers-{n}") for n, by in f1.items() for m, course in by.items()]
    run["topologies"] = [topology(None, m, n, method=m, protocol=f"peers-{n}", bytes=n * 2_000_000) for n, by in f1.items() for m in by]
    return run


@pytest.mark.slow
def test_growth_tells_when_f1_has_settled_and_where_it_has_not(tmp_path: Path) -> None:
    courses: dict[str, list[float | None]] = {
        "quick": [0.5, 0.89, 0.9, 0.9],
        "slow": [0.5, 0.6, 0.7, 0.895],
        "dips": [0.9, 0.9, 0.5, 0.9],
        "short": [0.1, 0.2, 0.3, None],
    }
    quick, slow, dips, short = courses.values()
    run = growing({5: {"full": quick, "ring": slow}, 10: {"full": quick, "ring": dips}, 50: {"full": quick, "ring": short}})
    looks = plots.styles(["full", "ring"])
    found = growth_of(run, looks)
    assert found is not None
    assert (found["methods"], found["rounds"], found["never"]) == (["full", "ring"], 4, 1)
    page = written(tmp_path, run)
    harmless(page)
    assert "From few nodes to many" in page.text
    assert "An open circle above: not reached in 4 rounds." in page.text
    # 2 MB a node whatever their number: a level line in the third of four panels.
    bytes_sent = heights(found["figure"], looks["full"].colour.lower())[2]
    assert len(set(bytes_sent)) == 1
    # Settled in round 2 on an axis from 0 at 202 pixels to 1.2 × 4 at 30.
    settled = heights(found["figure"], looks["full"].colour.lower())[1]
    assert settled == pytest.approx([202 - 172 * 2 / 4.8] * 3, abs=0.1)
    assert heights(found["figure"], looks["ring"].colour.lower())[1] == pytest.approx([202 - 172 * 4 / 4.8] * 2, abs=0.1)


def test_growth_needs_three_numbers_of_nodes() -> None:
    course: dict[str, list[float | None]] = {"full": [0.5, 0.9]}
    looks = plots.styles(["full"])
    assert growth_of(growing({5: course, 10: course}), looks) is None
    assert growth_of(growing({5: course, 10: course, 20: course}), looks) is not None
    same = growing({5: course, 10: course, 20: course})
    same["data"]["protocols"] = {name: {"nodes": 9} for name in same["data"]["protocols"]}
    assert growth_of(same, looks) is None
    bare = make_run(methods=("full",), protocols=("p", "q", "r"))
    bare["data"]["protocols"] = {name: {"nodes": place} for place, name in enumerate(("p", "q", "r"), start=2)}
    assert growth_of(bare, looks) is None


def test_the_page_is_the_same_each_time(tmp_path: Path) -> None:
    assert written(tmp_path, peers_run()).source == written(tmp_path, peers_run()).source


def test_evasion_is_told_before_and_after_by_method(tmp_path: Path) -> None:
    """Two nodes with 100 and 300 anomalies: 1 and 3 missed are 1 %; 10 and 90 after are 25 %."""
    about = {"method": "plain", "protocol": "strict", "seed": 0, "fold": "", "attack": "pgd", "budget": 0.05}
    tried = [
        {**about, "node": "a", "anomalies": 100, "missed": 1, "missed_after": 10},
        {**about, "node": "b", "anomalies": 300, "missed": 3, "missed_after": 90},
    ]
    (part,) = evasions_of({"evasions": tried})
    assert part["attacks"] == [{"attack": "PGD", "budget": "5.0 %"}]
    assert part["lines"] == [{"method": "plain", "before": {"mean": "1.0 %", "spread": ""}, "after": [{"mean": "25.0 %", "spread": ""}]}]
    other = [{**each, "seed": 1, "missed_after": 0} for each in tried]
    (part,) = evasions_of({"evasions": [*tried, *other]})
    assert part["lines"][0]["after"] == [{"mean": "12.5 %", "spread": "17.7 %"}]
    write_report(tmp_path / "report.html", {**make_run(), "evasions": tried})
    assert "If an attacker knew the network" in (tmp_path / "report.html").read_text()
    assert evasions_of({}) == []

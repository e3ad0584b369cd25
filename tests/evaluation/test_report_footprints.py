"""What the report says of footprints: bytes of a step, the process and the model, method by method."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pages import HOSTILE, Page, harmless, make_run, written
from vedette.evaluation import plots
from vedette.evaluation.plots import Bar, Footprint
from vedette.evaluation.report.footprints import footprints_of

HEADING = "What training takes of a device"
PLAN = "hidden layers 83-128-83, float16, 4 micro-batches of 32 rows, adam: 241,668 of 256,000 bytes a step"


def measured(method: str, trainer: str = "lowmem", fold: str = "", protocol: str = "trained", **changed: Any) -> dict[str, Any]:
    known = {
        "rows": 4000,
        "rows_bytes": 1_500_000,
        "parameters": 30_756,
        "model": 60_000,
        "pruned": 0.8,
        "step_first": 600_000,
        "step_last": 300_000,
        "floor": 250_000,
        "resident": 40_000_000,
        "seconds": 0.5,
        "joules": None,
        "plan": "",
    }
    if trainer == "torch":
        known |= {"model": 123_024, "pruned": 0.0, "step_first": 500_000, "step_last": 500_000, "resident": 320_000_000, "seconds": 2.0}
    return {"method": method, "protocol": protocol, "seed": 7, "fold": fold, "trainer": trainer, **known, **changed}


def part_of(*found: dict[str, Any]) -> dict[str, Any]:
    (part,) = footprints_of({"footprints": found}, plots.styles(each["method"] for each in found))
    return part


def page_of(tmp_path: Path, *found: dict[str, Any]) -> Page:
    stored = json.loads(json.dumps(make_run(methods=("flag-all", *{each["method"]: None for each in found}), footprints=list(found))))
    return written(tmp_path, stored)


def off(part: dict[str, Any], method: str) -> list[str]:
    return [cell["off"] for line in part["lines"] if line["method"] == method for cell in line["cells"]]


def test_runs_without_footprints_have_no_such_part(tmp_path: Path) -> None:
    for run in (make_run(), make_run(footprints=None), make_run(footprints=[])):
        assert HEADING not in written(tmp_path, run).text


def test_all_is_said_of_each_method(tmp_path: Path) -> None:
    page = page_of(tmp_path, measured("fcnn", "torch"), measured("mednn", plan=PLAN))
    harmless(page)
    assert HEADING in page.text
    assert "mednn can do with the least" not in page.text  # 600 kB at first, 500 kB the plain one
    assert "fcnn, can do with the least: 500.0 kB a step, where mednn takes 600.0 kB at first and 300.0 kB in the end." in page.text
    section = page.source[page.source.index('<section id="footprints">') :].split("</section>")[0]
    line, counted = re.findall(r"</svg>\s*mednn</th>(.*?)</tr>", section.replace("\u00a0", " "))
    cells = [re.sub(r"<[^>]+>", "|", cell).strip("|") for cell in re.findall(r"<td>.*?</td>", line)]
    assert cells[:5] == ["600.0 kB||+20.0 %", "300.0 kB||−40.0 %", "250.0 kB", "40.0 MB||−87.5 %", "60.0 kB"]
    assert cells[5:] == ["80.0 %", "500 ms|4,000 rows", "–"]
    assert "this machine has no meter that can be read" in page.text
    # 500 kB and 1.5 MB of rows are 2 MB: 300 kB is 85 % less, and streaming alone 1.5 of the 1.7 MB.
    assert re.findall(r"<td>(.*?)</td>", counted) == ["1.5 MB", "2.0 MB", "−70.0 %", "all", "−85.0 %", "88.2 %"]
    assert f"mednn: {PLAN}." in page.text
    sizes = [float(size) for size in re.findall(r"<text[^>]*font-size: ([\d.]+)px", section)]
    assert min(sizes) >= 11


def test_who_needs_the_least_room_is_named_where_it_is_less(tmp_path: Path) -> None:
    found = (measured("fcnn", "torch"), measured("half", step_first=450_000), measured("lean", step_first=450_000, step_last=200_000))
    said = "lean can do with the least: 450.0 kB a step at first and 200.0 kB in the end, where the plain network, fcnn, takes 500.0 kB."
    assert said in page_of(tmp_path, *found).text
    assert part_of(measured("fcnn", "torch"))["verdict"] is None
    assert part_of(measured("fcnn", "torch", step_last=None), measured("lean"))["verdict"] is None


def test_folds_are_averaged_and_compared_one_by_one() -> None:
    part = part_of(
        measured("fcnn", "torch", "a", step_last=400_000),
        measured("fcnn", "torch", "b", step_last=800_000, rows_bytes=1_200_000),
        measured("mednn", fold="a", step_last=100_000, rows_bytes=600_000),
        measured("mednn", fold="b", step_last=400_000, rows_bytes=1_200_000),
        measured("mednn", fold="c", step_last=700_000),
    )
    assert part["folds"] == 3
    _, last, *_ = part["lines"][1]["cells"]
    # A quarter and a half of the plain network's; of the third fold no plain network is known.
    assert last == {"mean": "400.0 kB", "range": "100.0 to 700.0 kB", "off": "−62.5 %"}
    assert part["lines"][0]["cells"][1]["range"] == "400.0 to 800.0 kB"
    (counted,) = part["counted"]
    # 100 of 1,000 kB and 400 of 2,000 kB are 90 and 80 % less; streaming explains 60 % of either whole, so 60 of 85.
    assert counted["last"] == {"off": "−85.0 %", "streamed": "70.6 %"}
    assert (counted["held"], counted["whole"]) == ("900.0 kB", "1.5 MB")


def test_units_stand_twice_where_they_differ() -> None:
    part = part_of(measured("mednn", fold="a", model=900_000), measured("mednn", fold="b", model=1_500_000))
    assert part["lines"][0]["cells"][4]["range"] == "900.0 kB to 1.5 MB"


def test_the_first_method_of_torch_is_the_plain_network() -> None:
    part = part_of(measured("zeta", "torch", step_last=600_000), measured("mednn"), measured("fcnn", "torch"))
    assert part["plain"] == "fcnn"
    assert off(part, "fcnn") == [""] * 5
    assert off(part, "zeta") == ["0.0 %", "+20.0 %", "", "0.0 %", ""]
    assert [line["method"] for line in part["counted"]] == ["mednn"]


def test_without_a_plain_network_nothing_is_compared(tmp_path: Path) -> None:
    part = part_of(measured("mednn"))
    assert (part["plain"], part["verdict"], part["counted"]) == (None, None, [])
    page = page_of(tmp_path, measured("mednn"))
    assert "As the paper counts it" not in page.text
    assert "Percentages: against" not in page.text


def test_a_step_that_takes_more_than_network_and_rows_owes_nothing_to_streaming() -> None:
    part = part_of(measured("fcnn", "torch"), measured("mednn", rows_bytes=50_000))
    assert part["counted"][0]["first"] == {"off": "+9.1 %", "streamed": "–"}
    # 300 of 550 kB are 45.5 % less, of which 50 in 250 kB.
    assert part["counted"][0]["last"] == {"off": "−45.5 %", "streamed": "20.0 %"}


@pytest.mark.parametrize("gone", [None, "missing", 0, float("nan")])
def test_what_was_not_measured_is_a_dash(tmp_path: Path, gone: Any) -> None:
    keys = ("step_first", "step_last", "floor", "resident", "model", "rows_bytes", "rows")
    unknown = measured("mednn", **dict.fromkeys(keys, gone)) | dict.fromkeys(("pruned", "seconds"))
    found = {key: value for key, value in unknown.items() if value != "missing"}
    for plain in ([measured("fcnn", "torch")], []):
        part = part_of(*plain, found)
        line = part["lines"][-1]
        assert [cell["mean"] for cell in line["cells"]] == ["–"] * 5
        assert off(part, "mednn") == [""] * 5
        assert (line["pruned"], line["seconds"], line["joules"], line["rows"]) == ("–", "–", "–", "")
        assert part["counted"] == []
        assert "nan" not in part["figure"].lower()
    harmless(page_of(tmp_path, measured("fcnn", "torch"), found))


def test_energy_is_told_where_there_is_a_meter(tmp_path: Path) -> None:
    found = (measured("fcnn", "torch", joules=120.4), measured("a", joules=12.34), measured("b", joules=0.0421), measured("c"))
    assert [line["joules"] for line in part_of(*found)["lines"]] == ["12.3 J", "0.042 J", "–", "120 J"]
    assert "no meter" not in page_of(tmp_path, *found).text


def test_plans_are_told_once_and_with_their_folds_where_they_differ() -> None:
    same = [measured("mednn", fold=fold, plan=PLAN) for fold in ("a", "b")]
    assert part_of(*same)["plans"] == [{"method": "mednn", "plan": PLAN, "folds": []}]
    other = measured("mednn", fold="c", plan="whole batches")
    assert [(each["plan"], each["folds"]) for each in part_of(*same, other)["plans"]] == [(PLAN, ["a", "b"]), ("whole batches", ["c"])]


def test_protocols_have_a_part_each_and_what_holds_for_all_is_said_once(tmp_path: Path) -> None:
    found = [
        measured(name, kind, protocol=protocol)
        for protocol in ("trained", "published")
        for name, kind in (("fcnn", "torch"), ("m", "lowmem"))
    ]
    page = page_of(tmp_path, *found)
    assert page.text.count("As the paper counts it") == 2
    for once in (HEADING, "Zakariyya et al. 2021 let", "The axes are logarithmic", "in a process that did nothing else"):
        assert page.text.count(once) == 1
    assert "Means over the" not in page.text[page.text.index(HEADING) :].split("How to read this page")[0]


def test_names_from_users_cannot_leave_their_place(tmp_path: Path) -> None:
    found = [measured(name, "torch" if place == 0 else "lowmem", fold=name, protocol=name, plan=name) for place, name in enumerate(HOSTILE)]
    found += [measured(name, fold=fold, protocol="p", plan=fold) for name in HOSTILE for fold in HOSTILE[:2]]
    page = page_of(tmp_path, *found)
    harmless(page)
    assert page.closed == len(page.tags) - page.tags.count("meta") - page.tags.count("input")
    for shown in ("<script>alert(1)</script>", "$x^2$ and $\\alpha", "{{ 7*7 }}"):
        assert shown in page.text


def widths(figure: str, colour: str) -> list[float]:
    """Return how wide the bars of a colour are, in pixels."""
    paths = re.findall(rf'<path d="([^"]*)"[^>]*style="[^"]*(?:fill|stroke): {colour.lower()}', figure)
    across = [[float(x) for x in re.findall(r"[ML] ([\d.]+) ", path)] for path in paths]
    return [max(x) - min(x) for x in across]


def test_bars_are_as_long_as_their_logarithm() -> None:
    looks = {"m": plots.Look("#123456")}
    bars = {
        name: Bar(size, f"{size:g}") for name, size in (("first", 1e6), ("last", 1e5), ("model", 2e4), ("floor", 5e4), ("resident", 1e8))
    }
    first, last, model, resident = widths(plots.footprint_figure([Footprint("m", **bars)], looks), "#123456")
    assert first / last == pytest.approx(2, rel=0.01)  # from 10 kB: two decades and one
    assert 0 < model < 0.4 * last
    assert resident > 0
    unknown = Bar(float("nan"), "–")
    empty = plots.footprint_figure([Footprint("m", *[unknown] * 5)], looks)
    assert widths(empty, "#123456") == []

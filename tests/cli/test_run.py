"""`vedette run` as a user types it: what it writes, and one clear line for what a user can get wrong."""

from __future__ import annotations

import gzip
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from commands import refused, spawned, vedette

from vedette.evaluation.recordings import EVENT_FIGURES

SMALL = [
    "--set",
    "data.train_hours=6",
    "--set",
    "data.test_hours=6",
    "--set",
    "data.nodes=3",
    "--set",
    "strategy.rounds=2",
    "--set",
    "seeds=1",
]
METRICS = {"accuracy", "precision", "recall", "f1", "mcc", "balanced_accuracy", "tnr", "fpr", "fnr", "auc_roc", "auc_pr"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "demo"
    process = spawned("run", "demo", "--out", out, *SMALL)
    printed, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    assert "flag-all" in printed
    assert "federated" in printed
    return out


def test_metrics_keep_the_contract(finished):
    run = json.loads((finished / "metrics.json").read_text())
    assert run["schema"] == "vedette.run/1"
    assert {"recipe", "seed", "runtime", "data", "rows", "timing", "traffic_bytes"} <= run.keys()
    assert {"name", "nodes", "rows_train", "rows_test", "anomaly_share"} <= run["data"].keys()
    assert (run["data"]["name"], run["data"]["nodes"], run["data"]["rows_test"]) == ("simulated", 3, 1080)
    assert run["data"]["protocols"]["strict"]["rows_train"] == run["data"]["rows_train"] > 0
    assert {row["method"] for row in run["rows"]} >= {"flag-all", "random", "centralised", "local", "federated", "pca", "variance-distance"}
    for row in run["rows"]:
        assert METRICS | {"method", "protocol", "split", "node", "seed"} <= row.keys()
        assert all(row[key] is None or -1 <= row[key] <= 1 for key in METRICS)
        assert {"events", *EVENT_FIGURES} <= row.keys()
        assert all(row[key] is None or 0 <= row[key] <= 1 for key in EVENT_FIGURES if key not in ("delay", "alarms_per_day"))
    sizes = {(row["split"], row["node"]): set() for row in run["rows"]}
    for row in run["rows"]:
        sizes[row["split"], row["node"]].add((row["rows"], row["anomalies"]))
    assert all(len(found) == 1 for found in sizes.values()), "methods were scored on different rows"
    flag_all = next(row for row in run["rows"] if row["method"] == "flag-all" and row["node"] == "*")
    share = flag_all["anomalies"] / flag_all["rows"]
    assert flag_all["f1"] == pytest.approx(2 * share / (1 + share))
    assert flag_all["fpr"] == 1
    assert run["traffic_bytes"]["local"] == 0
    assert run["traffic_bytes"]["federated"] > 0


def test_a_finished_folder_holds_report_and_detectors_but_no_checkpoints(finished):
    from vedette.detectors import load_bundle

    page = (finished / "report.html").read_text(encoding="utf-8")
    HTMLParser().feed(page)
    assert "As events" in page  # the simulated rows follow each other
    assert "What another threshold would give" in page
    assert not (finished / "checkpoints").exists()
    assert not (finished / "run.json").exists()
    assert {"federated", "local", "centralised"} <= {path.name for path in (finished / "detectors").iterdir()}
    detector = load_bundle(finished / "detectors" / "federated" / "fleet")
    assert detector.threshold_ > 0


def test_the_same_command_gives_the_same_numbers(finished, tmp_path):
    done = vedette("run", "demo", "--out", tmp_path / "again", "--json", *SMALL)
    first, again = json.loads((finished / "metrics.json").read_text()), json.loads(done.stdout)
    assert first["rows"] == again["rows"]
    other = vedette("run", "demo", "--out", tmp_path / "other", "--json", "--seed", "5", *SMALL)
    assert json.loads(other.stdout)["rows"] != first["rows"]


def test_a_quick_look_takes_no_whole_results_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trivial = (*SMALL, "--set", 'methods=["flag-all", "random"]')
    vedette("run", "demo", *trivial)
    vedette("run", "demo", "--quick", *trivial)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"demo", "demo-quick"}


def test_unknown_names_get_the_nearest_one(tmp_path):
    assert "did you mean 'demo'?" in refused("run", "demoo")
    line = refused("run", "demo", "--set", "strategy.ruonds=3", "--out", tmp_path / "x")
    assert "'ruonds'" in line
    assert "'rounds'" in line
    assert "did you mean 'detector'" in refused("run", "demo", "--set", "detctor.floor=3", "--out", tmp_path / "x")
    assert "did you mean 'fedavg'" in refused("run", "demo", "--set", "strategy.name=fedagv", "--out", tmp_path / "x")
    assert "did you mean 'centralised'" in refused("run", "demo", "--set", "methods=['centralized']", "--out", tmp_path / "x")
    assert "greater than or equal to 1" in refused("run", "demo", "--set", "strategy.batch=0", "--out", tmp_path / "x")
    assert "no protocol 'published'" in refused("run", "demo", "--protocol", "published", "--out", tmp_path / "x")
    assert "key=value" in refused("run", "demo", "--set", "seeds", "--out", tmp_path / "x")
    assert "key=value" in refused("run", "demo", "--set", "=3", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists(), "something was written before the mistake was noticed"


def test_missing_data_says_which_and_how_to_get_it(tmp_path):
    out = tmp_path / "out"
    line = refused("run", "kdd99-autoencoder", "--out", out)
    assert "--data" in line
    line = refused("run", "kdd99-autoencoder", "--out", out, "--data", tmp_path / "nowhere")
    assert "nowhere" in line
    (tmp_path / "kdd99").mkdir()
    line = refused("run", "kdd99-autoencoder", "--out", out, "--data", tmp_path)
    assert "kddcup.data_10_percent" in line
    (tmp_path / "kdd99" / "kddcup.data_10_percent.gz").write_bytes(gzip.compress(b"0,tcp,http,SF," * 50)[:-9])
    (tmp_path / "kdd99" / "corrected.gz").write_bytes(b"")
    line = refused("run", "kdd99-autoencoder", "--out", out, "--data", tmp_path)
    assert "kddcup.data_10_percent.gz" in line
    assert not out.exists()


RECIPE = """
title = "own rows"
[data]
name = "table"
files = ["*.csv"]
node = "device"
label = "state"
normal = "ok"
[detector]
name = "autoencoder"
hidden = [3]
[strategy]
name = "fedavg"
rounds = 2
[protocols.strict]
split = "rows"
test = 0.4
"""


def own_rows(folder: Path, change=lambda lines: lines, recipe: str = RECIPE) -> Path:
    """Write a person's own CSV and a recipe for it."""
    rng = np.random.default_rng(0)
    lines = ["device,a,b,c,state"]
    for number in range(240):
        x = rng.normal(size=3)
        lines.append(f"dev-{number % 2},{x[0]:.4f},{x[1]:.4f},{x[2]:.4f},{'ok' if number % 10 else 'leak'}")
    (folder / "rows.csv").write_text("\n".join(change(lines)) + "\n")
    (folder / "own.toml").write_text(recipe)
    return folder / "own.toml"


def test_own_tables_run(tmp_path):
    done = vedette("run", own_rows(tmp_path), "--data", tmp_path, "--out", tmp_path / "out", "--set", "seeds=1")
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert run["data"]["nodes"] == 2


def text_in(column: int, line: int, text: str):
    def change(lines):
        fields = lines[line].split(",")
        fields[column] = text
        return [*lines[:line], ",".join(fields), *lines[line + 1 :]]

    return change


def whole_column(column: int, text: str):
    def change(lines):
        return [lines[0], *(",".join([*f[:column], text, *f[column + 1 :]]) for f in (line.split(",") for line in lines[1:]))]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (text_in(2, 17, "warm"), ["rows.csv", "18", "'b'", "warm"]),
        (text_in(4, 17, "ok,extra"), ["rows.csv", "18"]),
        (whole_column(1, ""), ["'a'"]),
        (lambda lines: whole_column(3, "7")(whole_column(2, "7")(whole_column(1, "7")(lines))), ["constant"]),
        (lambda lines: lines[:1], ["rows.csv"]),
        (lambda lines: [line.replace(",", ";") for line in lines], ["rows.csv:1", "one column by ','", 'separator = ";"']),
        (lambda lines: [lines[0], *(line if line.startswith("dev-0") else line.replace(",ok", ",leak") for line in lines[1:])], ["dev-1"]),
    ],
    ids=["text-for-number", "too-many-fields", "all-missing", "all-constant", "empty", "semicolons", "node-without-normal-rows"],
)
def test_bad_tables_get_one_clear_line(tmp_path, change, said):
    recipe = own_rows(tmp_path, change)
    line = refused("run", recipe, "--data", tmp_path, "--out", tmp_path / "out", "--set", "seeds=1")
    assert all(part in line for part in said), line
    assert not (tmp_path / "out").exists()


def test_a_loss_that_diverges_names_node_and_round(tmp_path):
    changes = ["--set", "detector.optimiser.name=sgd", "--set", "detector.optimiser.rate=1e20", "--set", "methods=['federated']"]
    line = refused("run", "demo", "--out", tmp_path / "out", *SMALL, *changes)
    assert "pump-" in line
    assert "round 1" in line
    assert "training-diverged" in line


def test_an_unfinished_folder_is_not_overwritten(tmp_path):
    changes = ["--set", "detector.optimiser.name=sgd", "--set", "detector.optimiser.rate=1e20", "--set", "methods=['federated']"]
    out = tmp_path / "out"
    refused("run", "demo", "--out", out, *SMALL, *changes)
    assert "--resume" in refused("run", "demo", "--out", out, *SMALL)
    assert "other settings" in refused("run", "demo", "--out", out, *SMALL, "--resume")


def test_results_of_another_recipe_are_kept(finished, tmp_path):
    before = (finished / "metrics.json").read_bytes()
    recipe = own_rows(tmp_path)
    assert "holds the results of 'demo'" in refused("run", recipe, "--data", tmp_path, "--out", finished)
    assert (finished / "metrics.json").read_bytes() == before


def test_listings_speak_json_and_tables(data_root):
    recipes = json.loads(vedette("recipes", "--json").stdout)
    assert recipes["schema"] == "vedette.recipes/1"
    assert {"demo", "kdd99-autoencoder", "kdd99-all-features", "nsl-kdd-autoencoder"} <= {entry["name"] for entry in recipes["recipes"]}
    assert "nsl-kdd-autoencoder" in vedette("recipes").stdout
    listed = json.loads(vedette("data", "list", "--json", "--data", data_root).stdout)
    here = {entry["name"]: entry["here"] for entry in listed["data"]}
    assert here["kdd99"] is True
    assert here["simulated"] is None
    assert json.loads(vedette("data", "list", "--json").stdout)["data"][0]["here"] in (False, None)


def test_a_data_root_that_is_not_there_is_told_beside_what_is_known(tmp_path):
    shown = " ".join(vedette("data", "list", "--data", tmp_path / "nowhere").stdout.split())
    assert f"The data root '{tmp_path / 'nowhere'}' is no folder (yet)." in shown
    assert "is no folder" not in vedette("data", "list", "--data", tmp_path).stdout


@pytest.mark.slow
def test_data_is_held_against_what_was_published(data_root, tmp_path):
    done = vedette("data", "check", data_root, "--json")
    found = {entry["name"]: entry for entry in json.loads(done.stdout)["data"]}
    rows = {"train": 125_973, "test": 22_544}
    assert found["nsl-kdd"] == {"name": "nsl-kdd", "rows": rows, "files": 2, "checksums": 2, "faults": []}
    assert done.returncode == int(any(entry["faults"] for entry in found.values()))
    (tmp_path / "nsl-kdd").mkdir()
    source = data_root / "nsl-kdd" / "KDDTrain+.txt.gz"
    (tmp_path / "nsl-kdd" / "KDDTest+.txt.gz").symlink_to(data_root / "nsl-kdd" / "KDDTest+.txt.gz")
    (tmp_path / "nsl-kdd" / "KDDTrain+.txt.gz").write_bytes(source.read_bytes()[:-1000])
    broken = vedette("data", "check", tmp_path)
    assert broken.returncode == 1
    assert "KDDTrain+.txt.gz" in broken.stdout
    faults = json.loads(vedette("data", "check", tmp_path, "--json").stdout)["data"][0]["faults"]
    assert len(faults) == 2
    assert all("KDDTrain+.txt.gz" in fault for fault in faults)
    assert "no folder" in refused("data", "check", tmp_path / "nowhere")


def test_a_file_is_no_folder_for_results_and_nobody_is_told_to_delete_it(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    line = refused("run", "demo", "--out", tmp_path / "notes.txt", *SMALL)
    assert "it is a file; choose a folder with --out [storage]" in line


def test_a_command_that_is_none_gets_the_nearest_one_once():
    for command in (["rn"], ["recipes", "shw"], ["data", "lst"], ["keys", "ad"], ["policy", "shw"]):
        done = vedette(*command)
        assert done.returncode == 2
        assert done.stderr.count("Did you mean") == 1


def test_every_command_has_help_with_an_example():
    commands = "run, recipes, recipes show, compare, leak, explain, export, data list, data check, data fetch, data simulate"
    commands += ", data cache, data cache clear"
    for command in commands.split(", "):
        text = vedette(*command.split(), "--help").stdout
        assert "Example:" in text
    assert "vedette run demo" in vedette("--help").stdout
    assert vedette("--version").stdout.startswith("vedette ")


def test_files_under_each_others_names_are_told_by_what_they_hold(data_root, tmp_path):
    (tmp_path / "unsw-nb15").mkdir()
    (tmp_path / "unsw-nb15" / "UNSW_NB15_training-set.csv.gz").symlink_to(data_root / "unsw-nb15" / "UNSW_NB15_testing-set.csv.gz")
    (found,) = json.loads(vedette("data", "check", tmp_path, "--json").stdout)["data"]
    assert (found["checksums"], found["faults"]) == (1, [])

"""The report in a real browser (Debian's chromium, headless): it draws in the light and in the dark, prints, and asks for nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import vedette
from matplotlib import image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    small = ["--set", "data.nodes=3", "--set", "data.train_hours=6", "--set", "data.test_hours=12"]
    assert vedette("run", "demo", "--out", folder, "--quick", "-q", *small).returncode == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def comparison(report: Path) -> Path:
    run = json.loads((report.parent / "metrics.json").read_text())
    for row in run["rows"]:
        row["f1"] = None if row["f1"] is None else row["f1"] * 0.9
    other = report.parent.parent / "other"
    other.mkdir()
    (other / "metrics.json").write_text(json.dumps(run))
    page = report.parent.parent / "compare.html"
    assert vedette("compare", report.parent, other, "--out", page).returncode == 0
    return page


def browse(report: Path, scratch: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={scratch / 'profile'}", *flags, report.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def test_what_the_browser_makes_of_it_is_what_was_meant(report: Path, tmp_path: Path) -> None:
    page = browse(report, tmp_path, "--dump-dom").stdout
    run = json.loads((report.parent / "metrics.json").read_text())
    federated = next(row for row in run["rows"] if (row["method"], row["split"], row["node"]) == ("federated", "test", "*"))
    assert f"{federated['f1']:.3f}" in page
    for heading in (
        "How well each method does",
        "As events",
        "What another threshold would give",
        "How training went",
        "Scores over time",
        "A: longest",
    ):
        assert heading in page
    assert page.count("<svg") >= 5
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    assert report.stat().st_size < 3_000_000


@pytest.mark.parametrize("what", ["report", pytest.param("comparison", marks=pytest.mark.slow)])
def test_it_draws_in_light_and_dark(what: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    report: Path = request.getfixturevalue(what)
    shades = []
    for name, flags in {"light": [], "dark": ["--blink-settings=preferredColorScheme=0"]}.items():
        picture = tmp_path / f"{name}.png"
        browse(report, tmp_path / name, f"--screenshot={picture}", "--window-size=1250,2400", *flags)
        pixels = np.asarray(image.imread(picture))[..., :3]
        assert pixels.shape[:2] == (2400, 1250)
        shades.append(float(np.median(pixels)))
        assert pixels.std() > 0.05  # text and figures, not an empty page
    assert shades[0] > 0.9
    assert shades[1] < 0.3


def test_it_prints(report: Path, tmp_path: Path) -> None:
    browse(report, tmp_path, f"--print-to-pdf={tmp_path / 'report.pdf'}", "--no-pdf-header-footer")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    assert 2 <= pages <= 20


@pytest.mark.slow
def test_magnifying_needs_no_script_and_does_not_print(report: Path, tmp_path: Path) -> None:
    source = report.read_text()
    section = '<section id="scores">'
    alone = f"<style>section, header, main > details {{ display: none; }} #scores {{ display: block; }}</style>{section}"
    pictures, papers = [], []
    for size in ("once", "fourfold"):
        page = tmp_path / f"{size}.html"
        wanted = source.replace(" checked>", ">").replace(f'class="{size}" name="zoom-0"', f'class="{size}" name="zoom-0" checked')
        page.write_text(wanted.replace(section, alone))
        browse(page, tmp_path / size, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1250,2400")
        pictures.append(np.asarray(image.imread(tmp_path / "page.png"))[..., :3].sum(axis=2).T)
        browse(page, tmp_path / size, f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
        papers.append(len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())))
    # The first picture is four times as tall, so that all below it moves down.
    ends = [int(np.flatnonzero(picture.min(axis=0) < 2)[-1]) for picture in pictures]
    assert ends[1] > ends[0] + 300
    assert papers[0] == papers[1]

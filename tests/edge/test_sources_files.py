"""Lines, replays, flow records and this machine's counters."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fed import TWO, decoder, opened, read

from vedette.data.table import Feature
from vedette.edge.sources.eve import FLOW, Eve
from vedette.edge.sources.host import COUNTERS, Host
from vedette.edge.sources.lines import Lines
from vedette.edge.sources.replay import Replay
from vedette.errors import DataBroken, DataMissing, UnknownName


def line(flow: float) -> str:
    return json.dumps({"flow": flow, "pressure": 1}) + "\n"


def flows(readings: object) -> list[float]:
    return readings.numbers[:, 0].tolist()  # type: ignore[attr-defined,no-any-return]


# Lines.


def test_a_growing_file_is_followed_and_half_a_line_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with opened(Lines(path=str(path)), decoder()) as feed:
        assert feed.drain(0.0) is None
        path.write_text(line(1) + line(2) + '{"flow": 3,')
        assert flows(read(feed, 2)[0]) == [1, 2]
        assert feed.drain(0.0) is None
        with path.open("a") as file:
            file.write(' "pressure": 1}\n\n' + line(4))
        assert flows(read(feed, 2)[0]) == [3, 4]
        assert feed.counts == {"unreadable": 1}
        assert not feed.ended


def test_a_position_goes_on_exactly_behind_what_was_drained(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(line(i) for i in range(10)) + line(10).strip())
    position, found = "", []
    while len(found) < 11:
        with opened(Lines(path=str(path), follow=False), decoder(), position) as feed:
            part, position = read(feed, 3 if len(found) < 9 else 2, most=3)
            found += flows(part)
    assert found == list(range(11))
    with opened(Lines(path=str(path), follow=False), decoder(), position) as feed:
        assert feed.drain(0.1) is None
        assert feed.ended


def test_a_rotated_file_is_read_to_its_end_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line(1) + line(2) + line(3))
    with opened(Lines(path=str(path)), decoder()) as feed:
        _, position = read(feed, 1, most=1)
    for again in (position, ""):
        if not again:
            continue
        path.rename(tmp_path / "log.1")
        path.write_text(line(4))
        with opened(Lines(path=str(path)), decoder(), again) as feed:
            assert flows(read(feed, 3)[0]) == [2, 3, 4]
            path.rename(tmp_path / "log.2")
            with (tmp_path / "log.2").open("a") as file:
                file.write(line(5))
            path.write_text(line(6))
            assert flows(read(feed, 2)[0]) == [5, 6]
            assert not feed.counts


def test_a_truncated_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line(1) + line(2))
    with opened(Lines(path=str(path)), decoder()) as feed:
        read(feed, 2)
        path.write_text(line(3))
        assert flows(read(feed, 1)[0]) == [3]
        assert feed.counts == {"truncated": 1}
    with opened(Lines(path=str(path)), decoder(), "1:99999") as feed:
        assert flows(read(feed, 1)[0]) == [3]
        assert feed.counts == {"lost-place": 1}


def test_a_line_beyond_the_bound_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line(1) + 3 * 2**20 * "x" + "\n" + line(2) + 10 * "y" + "\n" + line(3))
    with opened(Lines(path=str(path)), decoder(most_bytes=2**20)) as feed:
        assert flows(read(feed, 3)[0]) == [1, 2, 3]
        assert feed.counts == {"too-large": 1, "garbage": 1}


def test_a_file_that_is_not_there_and_not_waited_for_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no file"):
        Lines(path=str(tmp_path / "none"), follow=False).open(decoder())


READER = """
import sys
sys.path[:0] = {paths!r}
from fed import decoder
from vedette.edge.sources.lines import Lines
feed = Lines(device="d").open(decoder())
while not feed.ended:
    drained = feed.drain(5.0)
    if drained is not None:
        print(drained.readings.numbers[:, 0].tolist(), drained.position, flush=True)
print(dict(feed.counts))
"""


def test_standard_input_is_read_as_it_comes_until_it_ends() -> None:
    code = READER.format(paths=[str(Path(__file__).parent)])
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line(1))
        process.stdin.flush()
        assert process.stdout.readline() == "[1.0] \n"
        process.stdin.write("{\n" + line(2).strip())
        process.stdin.close()
        assert process.stdout.read() == "[2.0] \n{'garbage': 1}\n"
        assert process.wait(60) == 0


def test_keys_that_nothing_reads_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log"
    path.write_text("[[\n" + 2 * '{"device": "p", "flow": 1, "pressure": 2, "at": {"time": 5}}\n')
    for format, names in (({}, ["device", "at"]), ({"device": "device"}, ["at"]), ({"device": "device", "time": "at.time"}, None)):
        caplog.clear()
        with opened(Lines(path=str(path), follow=False), decoder(**format)) as feed:
            assert feed.drain(0.1) is not None
        found = [record.fields for record in caplog.records if record.message == "fields are left alone"]  # type: ignore[attr-defined]
        assert found == ([] if names is None else [names])


def test_lists_are_not_looked_at_for_keys_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bytes] = []
    monkeypatch.setattr("vedette.edge.sources.lines.keys_of", lambda line: looked.append(line) or [])
    path = tmp_path / "log"
    path.write_text("[1, 2]\n" * 300)
    with opened(Lines(path=str(path), follow=False), decoder()) as feed:
        assert len(read(feed, 300)[0]) == 300
    assert len(looked) == 100


# Replay.

HEADER = "time;flow;pressure;state\n"
ROWS = ["2020-03-09 10:14:33;0.5;1;a", "2020-03-09 10:14:34;;2;b", '2020-03-09 10:14:35;x;3;"c\nd"', "1", "", "2020-03-09 10:14:36;4;5;e"]


def test_csv_is_replayed_and_goes_on_at_any_row(tmp_path: Path) -> None:
    path = tmp_path / "pump-1.anomaly.csv"
    path.write_text(HEADER + "\n".join(ROWS))
    features = (*TWO, Feature("state", "category"))
    for most in (1, 2, 100):
        position, numbers, texts, times, counts = "", [], [], [], {}
        while True:
            made = decoder(features, time="time")
            with opened(Replay(files=(str(path),)), made, position) as feed:
                drained = feed.drain(0.0, most)
                if drained is None:
                    assert feed.ended
                    break
                position = drained.position
                numbers += drained.readings.numbers.tolist()
                texts += drained.readings.categories[0].texts()
                times += drained.readings.times.tolist()
                counts = {kind: counts.get(kind, 0) + made.counts[kind] for kind in {*counts, *made.counts}}
                assert made.devices.names == ["pump-1"]
        np.testing.assert_equal(numbers, [[0.5, 1], [np.nan, 2], [np.nan, 3], [4, 5]])
        assert texts == ["a", "b", "c\nd", "e"]
        assert np.diff(times).tolist() == [1, 1, 1]
        assert times[0] == 1583748873
        assert counts["missing-field"] == counts["wrong-type"] == 1


def test_files_follow_each_other_and_rows_without_a_time_stand_a_period_apart(tmp_path: Path) -> None:
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for i, path in enumerate(paths):
        path.write_text("pressure,flow\n" + "".join(f"{row},{10 * i + row}\n" for row in range(3)))
    source = Replay(files=tuple(map(str, paths)), device="pump", period=2.0)
    with opened(source, decoder()) as feed:
        first, position = read(feed, 4, most=4)
    with opened(source, decoder(), position) as feed:
        second, _ = read(feed, 2)
    assert [*flows(first), *flows(second)] == [0, 1, 2, 10, 11, 12]
    assert [*first.times, *second.times] == [0, 2, 4, 6, 8, 10]


def test_parquet_is_replayed_as_csv_is(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    path = tmp_path / "a.parquet"
    polars.DataFrame({"t": [1.0, 2.0, 3.0], "d": ["p", "q", "p"], "flow": [1, None, 3], "pressure": [4.0, 5.0, 6.0]}).write_parquet(path)
    made = decoder(time="t", device="d")
    with opened(Replay(files=(str(path),)), made) as feed:
        first, position = read(feed, 2, most=2)
    with opened(Replay(files=(str(path),)), made, position) as feed:
        second, _ = read(feed, 1)
        assert feed.ended
    np.testing.assert_equal(np.vstack([first.numbers, second.numbers]), [[1, 4], [np.nan, 5], [3, 6]])
    assert made.devices.names == ["p", "q"]
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataBroken, match="cannot be read as Parquet"):
        Replay(files=(str(tmp_path / "b.parquet"),)).open(decoder())


def test_a_replay_keeps_the_pace_it_is_told_to(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("flow,pressure\n" + 5 * "1,2\n")
    with opened(Replay(files=(str(path),), speed=20.0), decoder()) as feed:
        begin = time.monotonic()
        assert len(feed.drain(0.0).readings) == 1
        read(feed, 4)
        assert time.monotonic() - begin >= 0.2
        assert feed.ended


def test_a_file_without_a_feature_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("flow,presure\n1,2\n")
    with pytest.raises(UnknownName, match="no column 'pressure'; did you mean 'presure'"):
        Replay(files=(str(tmp_path / "a.csv"),)).open(decoder())
    (tmp_path / "d.csv").write_text("flow,pressure,flow\n1,2,3\n")
    with pytest.raises(DataBroken, match="two columns are called 'flow'"):
        Replay(files=(str(tmp_path / "d.csv"),)).open(decoder())
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"flow,pressure\n" + 5000 * b"1,2\n")[:40])
    with pytest.raises(DataBroken, match="cannot be read"):
        read(Replay(files=(str(tmp_path / "c.csv.gz"),)).open(decoder()), 5000)
    with pytest.raises(DataMissing, match="to replay"):
        Replay(files=(str(tmp_path / "b.csv"),)).open(decoder())


def test_text_in_another_encoding_is_no_category_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("flow,pressure,state,note\n1,2,für,für\n3,4,ok,für\n".encode("latin-1"))
    made = decoder((*TWO, Feature("state", "category")))
    with opened(Replay(files=(str(path),)), made) as feed:
        readings, _ = read(feed, 2)
    assert readings.categories[0].texts() == ["", "ok"]
    assert made.counts == {"wrong-type": 1}


def test_a_real_recording_is_replayed_row_by_row(data_root: Path) -> None:
    path = data_root / "skab" / "valve1" / "0.csv.gz"
    names = ["Accelerometer1RMS", "Pressure", "Volume Flow RateRMS"]
    made = decoder(tuple(Feature(name) for name in names), time="datetime")
    with opened(Replay(files=(str(path),)), made) as feed:
        readings, _ = read(feed, gzip.decompress(path.read_bytes()).count(b"\n") - 1)
    rows = np.genfromtxt(path, delimiter=";", names=True, usecols=(1, 4, 8))
    np.testing.assert_array_equal(readings.numbers, np.array(rows.tolist()))
    assert not made.counts


# Flow records.

RECORD = {
    "timestamp": "2026-05-01T10:00:05.250000+0000",
    "event_type": "flow",
    "src_ip": "10.0.0.5",
    "src_port": 51000,
    "dest_ip": "10.0.0.1",
    "dest_port": 443,
    "proto": "TCP",
    "app_proto": "tls",
    "flow": {
        "pkts_toserver": 10,
        "pkts_toclient": 4,
        "bytes_toserver": 1000,
        "bytes_toclient": 6000,
        "start": "2026-05-01T10:00:00.000000+0000",
        "end": "2026-05-01T10:00:02.000000+0000",
        "age": 2,
        "state": "closed",
        "reason": "timeout",
        "alerted": False,
    },
}


def test_flow_records_become_readings_of_who_sent_them(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    icmp = {"timestamp": RECORD["timestamp"], "event_type": "flow", "src_ip": "fe80::1", "proto": "ICMP", "flow": {"age": 3}}
    records = [
        RECORD,
        {"event_type": "dns", "src_ip": "10.0.0.5"},
        RECORD,
        icmp,
        {**RECORD, "timestamp": None},
        [],
        {**RECORD, "src_ip": 1.5},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + "{\n")
    source = Eve(path=str(path), follow=False)
    made = decoder(source.features)
    with opened(source, made) as feed:
        readings, _ = read(feed, 3)
    assert made.devices.names == ["10.0.0.5", "fe80::1"]
    assert readings.numbers[0].tolist() == [2, 10, 4, 1000, 6000, 100, 1500, 3500, 51000, 443, 0]
    assert [column.texts()[0] for column in readings.categories] == ["TCP", "tls", "closed", "timeout"]
    assert readings.times[0] == 1777629605.25
    assert readings.times[1] > readings.times[0]  # two flows may end at the same moment
    assert readings.numbers[2, 0] == 3
    assert made.counts == {"missing-field": 6, "bad-time": 1, "bad-device": 1, "garbage": 1}
    assert len(FLOW) == 15


# This machine.


def test_this_machine_shows_what_it_does(tmp_path: Path) -> None:
    source = Host(every=0.05, device="me")
    made = decoder(source.features)
    with opened(source, made) as feed:
        (tmp_path / "file").write_bytes(os.urandom(2**20))
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        readings, _ = read(feed, 3)
    values = dict(zip((feature.name for feature in COUNTERS), readings.numbers.mean(axis=0), strict=True))
    assert np.isfinite(readings.numbers).all()
    assert (readings.numbers >= 0).all()
    assert 0 < values["cpu.user"] + values["cpu.system"] <= 100.5
    assert 0 < values["memory.used"] < 100
    assert values["cpu.switches"] > 0
    assert made.devices.names == ["me"]
    assert np.all(np.diff(readings.times) > 0.02)

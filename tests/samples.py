"""Small files in the layouts in which the data sets are published."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

SENSORS = "Accelerometer1RMS;Accelerometer2RMS;Current;Pressure;Temperature;Thermocouple;Voltage;Volume Flow RateRMS"
SKAB_HEADER = f"datetime;{SENSORS};anomaly;changepoint"


def kdd_lines(dot: str = ".", difficulty: str = "") -> str:
    rows = [("0", "tcp", "http", "SF", "normal"), ("2", "udp", "domain_u", "SF", "normal"), ("9.5", "icmp", "eco_i", "REJ", "back")]
    tail = [f"{i}" if i % 2 else f"{i / 100:.2f}" for i in range(37)]
    return "".join(",".join([*row[:4], *tail, row[4] + dot]) + difficulty + "\n" for row in rows)


def skab_lines(labelled: bool = True, end: str = "\n") -> str:
    rows = []
    for i in range(4):
        values = [
            f"2020-03-09 10:14:3{i}",
            *(f"{k + i / 8}" for k in range(8)),
            *(["1.0" if i == 2 else "0.0", "1.0" if i == 1 else "0.0"] if labelled else []),
        ]
        rows.append(";".join(values))
    return end.join([SKAB_HEADER if labelled else f"datetime;{SENSORS}", *rows, ""])


OWN = """time,device,flow,state,port,label
2024-05-01T00:00:02Z,b,1.5,"on, ""hot\""",80,0
2024-05-01T00:00:01Z,a,,off,443,leak
2024-05-01T02:00:00.5+02:00,b,-2e3,on,80,0
2024-05-01 00:00:00,a,NA,"off",22,0.0
"""


def put(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files below a folder, gzip'ed where their names say so; return the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder

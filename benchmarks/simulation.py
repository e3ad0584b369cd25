"""All devices of a simulated fleet once, one at a time: nodes and rows a second, and the most memory of the process.

The fleet is asked for as an experiment would (``fleet[node]``); each table is looked through and dropped. A shorter fleet in
the same process shows that memory does not grow with the number of nodes.
"""

from __future__ import annotations

import resource
import time

from table import options, told

from vedette.data.simulate import Simulated


def peak() -> float:
    """Return the most memory the process had, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Iterate fleets and tell."""
    parser = options(__doc__)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--device", default="mixed")
    chosen = parser.parse_args()
    entries = []
    for nodes in (chosen.nodes // 10, chosen.nodes):
        fleet = Simulated(device=chosen.device, nodes=nodes, test_hours=chosen.hours).fleet("test")
        rows = anomalous = 0
        start = time.perf_counter()
        for node in fleet:
            table = fleet[node]
            assert table.label is not None
            rows, anomalous = rows + len(table), anomalous + int(table.label.sum())
        seconds = time.perf_counter() - start
        entries.append(
            {
                "fleet": f"{nodes:,} × {rows // nodes:,} rows",
                "s": round(seconds, 1),
                "nodes/s": round(nodes / seconds),
                "rows/s": round(rows / seconds),
                "labelled": round(anomalous / rows, 3),
                "peak MiB": round(peak()),
            }
        )
    told("simulation", entries, chosen.json)


if __name__ == "__main__":
    main()

"""A simulated fleet of pumps: telemetry with labelled faults, nothing to download, one node at a time."""

from vedette.data.simulate.faults import FAULTS
from vedette.data.simulate.fleet import Pumps
from vedette.data.simulate.pump import FEATURES, Pump
from vedette.data.simulate.recording import simulate_pump, stream_pump

__all__ = ["FAULTS", "FEATURES", "Pump", "Pumps", "simulate_pump", "stream_pump"]

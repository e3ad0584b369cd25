"""Simulated fleets: telemetry with labelled faults, nothing to download, one node at a time."""

from vedette.data.simulate.device import DEVICES, Device
from vedette.data.simulate.faults import FAULTS
from vedette.data.simulate.fleet import Simulated
from vedette.data.simulate.nuisances import EVENTS, Nuisances
from vedette.data.simulate.pump import FEATURES, Pump
from vedette.data.simulate.recording import Plan, simulate_device, stream_device

__all__ = [
    "DEVICES",
    "EVENTS",
    "FAULTS",
    "FEATURES",
    "Device",
    "Nuisances",
    "Plan",
    "Pump",
    "Simulated",
    "simulate_device",
    "stream_device",
]

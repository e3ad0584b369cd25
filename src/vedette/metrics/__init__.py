"""Metrics: functions on arrays, used by report, rounds and live counters alike."""

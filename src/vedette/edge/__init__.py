"""Live detection at the edge: sources of readings, scoring, calibration, incidents, and what is told to whom."""

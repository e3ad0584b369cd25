"""Parts of benchmarks/cohort.py."""

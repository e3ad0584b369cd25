"""Cohorts: equal tasks of many nodes carried out together, in batched matrix products."""

"""Evaluation: protocols, recipes, experiments, reports."""

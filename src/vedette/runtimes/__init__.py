"""Runtimes: where a plan is carried out."""

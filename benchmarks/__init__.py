"""Measurements. Each module prints its figures; `results/` keeps them with date, machine and versions."""

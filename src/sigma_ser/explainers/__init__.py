"""Explainers, one file a family: maps only. Imports core (victims by contract)."""

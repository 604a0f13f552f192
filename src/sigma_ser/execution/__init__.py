"""Executors: where independent tasks run. Imports core alone."""

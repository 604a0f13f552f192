"""Executors: how work is spread over processes and machines. Imports core."""

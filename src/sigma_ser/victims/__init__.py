"""Recognisers: one file a head; training, checkpoints.

Imports core, execution, statistics, corpora, encoders.
"""

"""Encoders, one file a family; extraction; the feature store.

Imports core, execution, audio, corpora.
"""

"""Frozen speech encoders, one family a file, and the store of their features.

Imports core, execution, demo, audio and corpora.
"""

"""Corpora, one file each; manifests, split protocols, leakage. Imports core, audio."""

"""Classifier metrics, bootstrap intervals and paired tests. Imports core."""

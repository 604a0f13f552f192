"""Attacks, one file each; SIGMA puts explainer, mask and attack together.

Imports core, explainers, masks.
"""

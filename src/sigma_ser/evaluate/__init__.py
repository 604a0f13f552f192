"""Success, sizes, explanation consistency, transfer, cost.

Imports core, statistics, explainers, masks, attacks.
"""

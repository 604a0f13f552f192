"""Success, sizes, explanation consistency, transfer, cost.

Imports core, statistics, explain, masks, attacks.
"""

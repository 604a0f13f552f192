"""Types that every room speaks: features, budget, audit, top-k, seeds, passes, errors, registry.

May import nothing else of the package; everything else may import this.
"""

"""Adapters that run attacks of other libraries under the same budget, one module per library.

The libraries are imported only when one of their attacks is created.
"""

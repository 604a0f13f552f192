"""Attacks of other libraries under our budget; one file a library.

Imports core and the attacks around it; the libraries themselves only when they are asked for.
"""

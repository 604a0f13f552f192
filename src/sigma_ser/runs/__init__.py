"""A run folder on disk: its paths, lock, status, provenance and garbage collection."""

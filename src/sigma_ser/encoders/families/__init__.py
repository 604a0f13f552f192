"""One file for each family of encoders, registered under its `model_type`. Imports encoders."""

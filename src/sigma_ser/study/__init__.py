"""Studies: config, plan, run, results on disk. Imports every room above."""

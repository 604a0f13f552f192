"""The command line, one file a command, thin. Imports every room, lazily."""

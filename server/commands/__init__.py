"""The commands that a person can type: the command line."""

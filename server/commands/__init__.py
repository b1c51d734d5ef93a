"""What a person can type: the command line."""

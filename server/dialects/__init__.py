"""Agent protocols: each turns its own JSON into a request for a turn, and the turn's result into its own JSON."""

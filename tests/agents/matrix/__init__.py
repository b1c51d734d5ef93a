"""Real agent frameworks, each in an environment of its own: a small script runs one, and the same is asked of all."""

"""HTTP: wiring, and nothing else."""

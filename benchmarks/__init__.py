"""Measurements of Tickertape; run them from the repository's root, e.g. `python -m benchmarks.proxy`."""

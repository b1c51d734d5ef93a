"""Random input in numbers: what servers, parsers and comparisons must bear.

``python -m tests.fuzz.histories 1000000`` and ``python -m tests.fuzz.requests 200000`` are the evidence in
``docs/limits.md``; ``test_fuzz.py`` runs a few thousand of each. What was found is a test of its own elsewhere.
"""

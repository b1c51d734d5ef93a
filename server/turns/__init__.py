"""The course of one turn: match, prepare, sample, parse, commit. No protocol and no HTTP."""

"""How one turn is taken: match, prepare, sample, parse, commit. No protocol and no HTTP."""

"""The token tree: match, extend, commit, samples. Plain objects: no HTTP, no SQL."""

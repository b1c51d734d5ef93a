"""The comparison of what is on tape with what an engine computes."""

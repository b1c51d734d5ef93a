"""What is on tape against what an engine computes."""

"""What happens to one call of an agent, from its bytes to its answer."""

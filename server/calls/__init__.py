"""The course of one call of an agent, from its bytes to its answer."""

"""Drives any model by its own chat template: renders, attributes, quotes, and derives the bridge."""

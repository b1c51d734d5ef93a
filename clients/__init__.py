"""Reaching out: engines on one side, the trainer's client of this proxy on the other."""

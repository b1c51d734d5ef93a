"""Tinker: its requests, its answers, and the engine that speaks them through its SDK."""

"""Connections and requests, before anything is asked of them: bounds in bytes, number and time."""

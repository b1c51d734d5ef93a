"""The assembly, start and stop of a process."""

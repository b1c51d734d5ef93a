"""How a process is assembled, started and stopped."""

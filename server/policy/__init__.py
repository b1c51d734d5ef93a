"""Which weights sample now, and the pauses in which a trainer updates them."""

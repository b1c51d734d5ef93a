"""Small programs around a running server: `examples/README.md`."""

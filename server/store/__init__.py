"""The durable tape: rows and blobs, group commit."""

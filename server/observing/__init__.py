"""The operators' view: metrics, logs, traces. It watches the proxy and changes nothing that it does."""

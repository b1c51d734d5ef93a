"""Agents run on the same proxies as the server's tests."""

from tests.server.conftest import session, start_proxy

__all__ = ["session", "start_proxy"]

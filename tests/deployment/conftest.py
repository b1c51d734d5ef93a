"""What several of these tests use."""

import pytest

from tickertape.server.serving.app import ROUTERS


@pytest.fixture(scope="session")
def routes() -> set[str]:
    """``METHOD path`` of everything that is served."""
    return {f"{method} {route.path}" for router in ROUTERS for route in router.routes for method in route.methods}

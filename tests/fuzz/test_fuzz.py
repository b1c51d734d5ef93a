"""A few thousand of each kind of random input; :mod:`tests.fuzz` says how many there were by hand."""

from pathlib import Path

import pytest

from tests.engines import ScriptedEngine
from tests.fuzz.histories import Histories
from tests.fuzz.requests import Requests
from tests.server.conftest import scripted

pytestmark = pytest.mark.slow


def test_completions_and_histories() -> None:
    histories = Histories(("qwen3", "llama3.1", "gpt-oss"))
    for seed in range(6000):
        histories.run(seed)


def test_requests(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, 151645])
    with scripted(engine, tmp_path, served_model_names=("*",)) as proxy:
        requests = Requests(proxy)
        for seed in range(2000):
            requests.run(seed)
        assert proxy.chat(None, [{"role": "user", "content": "Hello"}]).status_code == 200

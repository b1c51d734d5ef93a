"""The models that are written for real engines are what they are meant to be."""

import json
import urllib.request

import pytest

from tests.real.conftest import StartServer
from tests.real.engines import Kind
from tests.real.models import smollm2

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_smollm2_out_of_the_gguf_file_speaks_sense(start_server: StartServer, kind: Kind) -> None:
    """Weights that were dequantised or permuted wrongly would babble."""
    server = start_server(kind, smollm2())
    body = {"model": "tiny", "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"{server.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert "Paris" in json.load(answer)["choices"][0]["text"]

"""Other weights for a server that is running, the way trainers do it."""

import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.real.engines import RealServer


def swap(server: RealServer, model: Path, version: str) -> None:
    """Loads the weights of ``model`` in the place of those that are there, empties the prefix cache, and sets the
    version. What the server runs must be paused."""
    if server.kind == "vllm":
        # The workers' results come first: a collective_rpc that fails says so in its answer's status.
        post(server, "/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(model)}})
        post(server, "/reset_prefix_cache", {})
        post(server, "/update_weight_version", {"new_version": version})
    else:
        told = post(server, "/update_weights_from_disk", {"model_path": str(model), "weight_version": version})
        if not told["success"]:
            raise RuntimeError(told["message"])


def post(server: RealServer, path: str, body: Any) -> Any:
    """Asks the server apart from any client; the answer's JSON, ``None`` if it has none."""
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
        return json.loads(text) if text else None

"""The SGLang client against servers that were started with other flags, or that change their weights."""

import numpy as np
import pytest

from tests.real.conftest import StartServer
from tests.real.models import tiny_model
from tests.real.test_sglang import PROMPT, connected, post, sample, tokens
from tickertape.clients.engines.engine import LogprobKind

pytestmark = [pytest.mark.real, pytest.mark.slow]


async def test_incremental_streaming_says_the_same(start_server: StartServer) -> None:
    async with connected(start_server("sglang", options=("--incremental-streaming-output",))) as (engine, _):
        chunks = await sample(engine, max_tokens=50, ignore_eos=True, top_k=3, token_arrays=("sampling_mask",))
        arrays = chunks[-1].token_arrays
        assert arrays is not None
        assert len(tokens(chunks)) == len(arrays["sampling_mask"]) == 50
        scored = await engine.score([*PROMPT.tolist(), *tokens(chunks)])
        recorded = [value for chunk in chunks for value in chunk.logprobs]
        assert np.abs(np.array(scored.logprobs[len(PROMPT) :]) - recorded).max() <= 1e-3


async def test_logprobs_of_a_server_that_gives_the_model_s_own_are_called_raw(start_server: StartServer) -> None:
    server = start_server("sglang", environment={"SGLANG_RETURN_ORIGINAL_LOGPROB": "1"})
    async with connected(server) as (_, info):
        assert info.logprobs is LogprobKind.RAW


async def test_weights_of_another_version_give_other_logprobs(start_server: StartServer) -> None:
    server = start_server("sglang")
    async with connected(server) as (engine, _):
        before = await engine.score(PROMPT.tolist())
        told = {"model_path": str(tiny_model(1)), "weight_version": "b", "abort_all_requests": False}
        assert (await post(server, "/update_weights_from_disk", **told))["success"]
        assert await engine.policy_version() == "b"
        after = await engine.score(PROMPT.tolist())
        assert (await sample(engine))[-1].version_spans == [("b", 4)]
    assert np.abs(np.array(before.logprobs[1:]) - after.logprobs[1:]).max() > 0.1

"""SGLang servers that lack what is optional, as older ones and gateways do: they serve without it."""

from typing import Any

import numpy as np
import pytest

from tests.clients.test_sglang import events_of, recorded, streaming
from tests.clients.test_vllm import answering
from tests.clients.test_vllm_partly import failing, html, redirect
from tests.engines import Handler, faulty_sglang
from tickertape.clients.engines.engine import EngineInfo, Feature, LogprobKind, Sampling
from tickertape.clients.engines.errors import EngineError, EngineNonsense, EngineRefused, EngineUnavailable
from tickertape.clients.engines.sglang.engine import SglangEngine

ALL = set(Feature) - {Feature.ROUTED_EXPERTS}


async def used(others: dict[str, Handler], **server_info: Any) -> tuple[EngineInfo, str | None]:
    """Starts, is probed, and samples, as a member of a pool does."""
    with faulty_sglang(streaming(events_of("generate_stream")), others=others, **server_info) as url:
        engine = SglangEngine(url)
        try:
            info = await engine.start()
            await engine.check()
            version = await engine.policy_version()
            asked = engine.generate(np.array([1], np.int32), Sampling(64), request_id="r")
            assert [chunk async for chunk in asked]
            return info, version
        finally:
            await engine.close()


@pytest.mark.parametrize(
    ("others", "missing", "lost"),
    [
        ({"/ready": failing(404)}, "ready", set()),
        ({"/model_info": failing(404)}, "policy_version", set()),
        ({"/model_info": failing(500)}, "policy_version", set()),
        ({"/model_info": html}, "policy_version", set()),
        ({"/model_info": redirect}, "policy_version", set()),
        ({"vocabulary": failing(500)}, "vocabulary", set()),
        ({"vocabulary": html}, "vocabulary", set()),
        ({"probe_score": failing(500)}, "score", {Feature.SCORE}),
        ({"probe_score": html}, "score", {Feature.SCORE}),
        ({"probe_cold": failing(500)}, "top_logprobs", set()),
    ],
    ids=lambda given: "" if not isinstance(given, dict) else " ".join(given),
)
async def test_what_is_optional_is_named_and_done_without(
    others: dict[str, Handler], missing: str, lost: set[Feature]
) -> None:
    if missing == "top_logprobs":  # recorded for two alternatives, and asked for without any first
        others = {**others, "probe_hot": streaming(events_of("probe_hot"))}
    info, _ = await used(others)
    assert set(info.missing) == {missing}
    assert info.missing[missing]
    assert info.features == ALL - lost
    assert info.logprobs is LogprobKind.PROCESSED


async def test_flags_that_are_not_named_are_off() -> None:
    given = recorded("server_info")["response"]
    only = {"max_req_input_len": given["max_req_input_len"]}
    info, _ = await used({"/server_info": answering(only)})
    assert info.features == ALL - {Feature.STRUCTURE}
    assert (info.version, set(info.missing)) == ("", {"structure"})


async def test_a_server_that_says_it_is_not_ready_is_not_used() -> None:
    with pytest.raises(EngineUnavailable, match="/ready answered 503"):
        await used({"/ready": failing(503)})


@pytest.mark.parametrize("handler", [failing(400), html], ids=["refuses", "a web page"])
async def test_what_a_turn_needs_is_required_and_named(handler: Handler) -> None:
    with pytest.raises(EngineError, match=r"must sample from a prompt of token ids|without finishing"):
        await used({"probe_hot": handler})


async def test_alternatives_that_are_missing_are_refused_by_name() -> None:
    with faulty_sglang(streaming([]), others={"probe_cold": failing(500)}) as url:
        engine = SglangEngine(url)
        await engine.start()
        with pytest.raises(EngineRefused, match="has no top_logprobs") as caught:
            await anext(engine.generate(np.array([1], np.int32), Sampling(1, top_logprobs=1), request_id="r"))
        assert caught.value.param == "top_logprobs"
        await engine.close()


async def test_the_length_of_prompts_is_required_and_named() -> None:
    with pytest.raises(EngineNonsense, match="max_req_input_len"):
        await used({"/server_info": answering({"version": "0.5"})})

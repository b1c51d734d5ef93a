"""Plain completions: prompts that clients make themselves, as text or as token ids."""

import pytest
from openai.types import Completion

from tests.engines import ScriptedEngine
from tests.server.conftest import StartProxy, qwen3_tokenizer
from tests.server.invariants import check_all

PROMPT = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def encode(text: str) -> list[int]:
    return qwen3_tokenizer().encode_like_model(text)


def test_text_and_ids_are_the_same_prompt_and_control_tokens_are_what_they_spell(
    start_proxy: StartProxy, session: str
) -> None:
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: encode("<think>\nHm\n</think>Hi!<|im_end|>")))
    client = proxy.openai(session)
    for prompt in (PROMPT, encode(PROMPT), [PROMPT], [encode(PROMPT)]):
        answer = client.completions.create(model=proxy.model, prompt=prompt, max_tokens=50)
        assert (
            answer.choices[0].text == "<think>\nHm\n</think>Hi!"
        )  # plain text: nothing is taken out but the stop token
        assert engine.calls[-1].prompt_ids == encode(PROMPT)
    turns = check_all(proxy.tape, session, engine.calls)
    assert {turn.dialect for turn in turns} == {"completions"}
    assert [turn.fork_reason for turn in turns] == [None, "resampled", "resampled", "resampled"]


@pytest.mark.parametrize("as_ids", [False, True])
def test_prompt_that_goes_on_with_the_last_answer_extends_its_turn(
    start_proxy: StartProxy, session: str, as_ids: bool
) -> None:
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: encode("Hello you.<|im_end|>")))
    client = proxy.openai(session)
    ids = encode(PROMPT)
    for number in range(5):
        prompt = ids if as_ids else qwen3_tokenizer().decode(ids)
        client.completions.create(model=proxy.model, prompt=prompt, max_tokens=50)
        ids = [
            *engine.calls[-1].prompt_ids,
            *engine.calls[-1].token_ids,
            *encode(f"\n<|im_start|>user\n{number}<|im_end|>"),
        ]
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.parent_id for turn in turns] == [None, *(turn.id for turn in turns[:-1])]
    assert len(proxy.tape.samples(session)) == 1


def test_streamed_pieces_are_the_whole_text_with_its_logprobs_and_ids(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode("One 🦫 two STOP three<|im_end|>")))
    client = proxy.openai(session)
    fields = {"model": proxy.model, "prompt": PROMPT, "max_tokens": 50, "stop": "STOP", "logprobs": 1}
    more = {"extra_body": {"return_token_ids": True}}
    whole = client.completions.create(**fields, **more).model_dump()
    pieces = list(client.completions.create(**fields, stream=True, stream_options={"include_usage": True}, **more))
    for piece in map(Completion.model_dump, pieces):
        for choice in piece["choices"]:
            choice["finish_reason"] = (
                choice["finish_reason"] or "stop"
            )  # null before the end, which the type leaves out
        Completion.model_validate(piece, strict=True)
    told = [piece.model_dump()["choices"][0] for piece in pieces if piece.choices]
    (choice,) = whole["choices"]
    assert "".join(each["text"] for each in told) == choice["text"]
    assert [i for each in told for i in each["token_ids"]] == choice["token_ids"]
    assert choice["prompt_token_ids"] == encode(PROMPT)
    logprobs = [value for each in told if each["logprobs"] for value in each["logprobs"]["token_logprobs"]]
    assert logprobs == choice["logprobs"]["token_logprobs"] == proxy.tape.turns(session)[0].logprobs.tolist()
    assert pieces[-1].model_dump()["usage"] == whole["usage"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 999_999]}, "prompt[1]"),
        ({"prompt": {"text": "x"}}, "prompt"),
        ({"echo": True}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name_and_on_tape(
    start_proxy: StartProxy, session: str, fields: dict[str, object], param: str
) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode("x")))
    body = {"model": proxy.model, "prompt": PROMPT, **fields}
    answer = proxy.http.post(f"/sessions/{session}/v1/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"].split(".")[0]) == (400, param)
    assert [turn.outcome for turn in proxy.tape.turns(session)] == ["rejected"]


def test_tokenize_and_detokenize_as_vllm_does(start_proxy: StartProxy) -> None:
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: encode("x")))

    def post(path: str, **body: object) -> dict[str, object]:
        answer = proxy.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    told = post("/v1/tokenize", model=proxy.model, prompt=PROMPT, return_token_strs=True)
    assert told["tokens"] == encode(PROMPT)
    assert (told["count"], told["max_model_len"], told["token_strs"][0]) == (len(encode(PROMPT)), 4096, "<|im_start|>")
    assert post("/v1/detokenize", tokens=encode(PROMPT))["prompt"] == PROMPT
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "<|im_end|> is text"}]
    tokens = post("/tokenize", messages=messages)["tokens"]
    proxy.chat("some-session", messages)
    assert engine.calls[-1].prompt_ids == tokens
    for path, body in [
        ("/v1/tokenize", {"prompt": "x", "messages": messages}),
        ("/v1/tokenize", {}),
        ("/v1/tokenize", {"prompt": "x", "wat": 1}),
        ("/v1/detokenize", {"tokens": [-1]}),
        ("/v1/detokenize", {"tokens": "x"}),
    ]:
        assert proxy.http.post(path, json=body).status_code == 400

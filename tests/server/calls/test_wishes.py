"""NOTHING-SILENT: a wish about style, cost or speed ends no rollout. It is kept on the turn and named as ignored, in
every protocol alike; what would change what is sampled is refused, or done."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, qwen3_tokenizer, running, scripted
from tickertape.renderers.choose import Choice, get_renderer
from tickertape.server.settings import Settings

END = 151645
HELLO = [{"role": "user", "content": "Hello"}]
CHAT: tuple[str, dict[str, Any]] = ("chat/completions", {"messages": HELLO})
RESPONSES: tuple[str, dict[str, Any]] = ("responses", {"input": "Hello"})
MESSAGES: tuple[str, dict[str, Any]] = ("messages", {"messages": HELLO, "max_tokens": 9})


#: As Mistral's templates have it.
LEVELS = """{%- set reasoning_effort = reasoning_effort if reasoning_effort is defined else 'none' %}
{%- if reasoning_effort not in ['none', 'high'] %}{{ raise_exception('there is no such effort') }}{% endif %}
{{- '<|im_start|>system\\neffort: ' + reasoning_effort + '<|im_end|>\\n' }}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def playing() -> ScriptedEngine:
    return ScriptedEngine(lambda _ids, _sampling: [9707, END])


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Of Qwen3: it has a switch for thinking, and no levels of it."""
    with scripted(playing(), tmp_path_factory.mktemp("tape")) as proxy:
        yield proxy


def ask(proxy: Proxy, session: str, call: tuple[str, dict[str, Any]], fields: dict[str, Any]) -> Any:
    """The turn that a call has taken, which must have gone well."""
    route, body = call
    answer = proxy.http.post(f"/sessions/{session}/v1/{route}", json={"model": proxy.model, **body, **fields})
    assert answer.status_code == 200, answer.text
    (turn,) = proxy.tape.turns(session)
    assert answer.headers.get("X-Tickertape-Ignored", "") == ", ".join(turn.ignored_fields)
    return turn


WISHES: list[tuple[Any, dict[str, Any], str]] = [
    (CHAT, {"reasoning_effort": "high"}, "reasoning_effort"),
    (CHAT, {"verbosity": "low"}, "verbosity"),
    (CHAT, {"service_tier": "flex"}, "service_tier"),
    (CHAT, {"prediction": {"type": "content", "content": "Hi"}}, "prediction"),
    (CHAT, {"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    (RESPONSES, {"reasoning": {"effort": "xhigh"}}, "reasoning.effort"),
    (RESPONSES, {"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
    (RESPONSES, {"reasoning": {"generate_summary": "concise"}}, "reasoning.generate_summary"),
    (RESPONSES, {"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    (RESPONSES, {"text": {"verbosity": "high"}}, "text.verbosity"),
    (RESPONSES, {"truncation": "auto"}, "truncation"),
    (RESPONSES, {"service_tier": "priority"}, "service_tier"),
    (RESPONSES, {"image": {"context_compression": "enabled"}}, "image"),
    (MESSAGES, {"output_config": {"effort": "max"}}, "output_config.effort"),
    (MESSAGES, {"speed": "fast"}, "speed"),
]


@pytest.mark.parametrize(("call", "fields", "named"), WISHES, ids=[named for *_, named in WISHES])
def test_wishes_that_cannot_be_met_are_kept_and_named(
    proxy: Proxy, session: str, call: Any, fields: dict[str, Any], named: str
) -> None:
    turn = ask(proxy, session, call, fields)
    assert turn.ignored_fields == [named]
    assert turn.template_options == {}
    path = named.split(".")
    if path[0] not in ("stream_options", "output_config"):
        kept = turn.request_fields[path[0]]
        assert kept == fields[path[0]]


MET: list[tuple[Any, dict[str, Any]]] = [
    (CHAT, {"verbosity": "medium", "service_tier": "auto"}),
    (RESPONSES, {"text": {"verbosity": "medium"}, "truncation": "disabled", "reasoning": {"summary": "auto"}}),
    (MESSAGES, {"speed": "standard", "service_tier": "auto"}),
]


@pytest.mark.parametrize(("call", "fields"), MET, ids=["chat", "responses", "messages"])
def test_wishes_for_what_is_so_anyway_are_not_named(proxy: Proxy, session: str, call: Any, fields: Any) -> None:
    assert ask(proxy, session, call, fields).ignored_fields == []


EFFORTS: list[tuple[Any, Any]] = [
    (CHAT, lambda effort: {"reasoning_effort": effort}),
    (RESPONSES, lambda effort: {"reasoning": {"effort": effort}}),
    (MESSAGES, lambda effort: {"output_config": {"effort": effort}}),
]


@pytest.mark.parametrize("effort", ["none", "minimal"])
@pytest.mark.parametrize(("call", "of"), EFFORTS, ids=["chat", "responses", "messages"])
def test_an_effort_of_nothing_turns_thinking_off(proxy: Proxy, session: str, call: Any, of: Any, effort: str) -> None:
    turn = ask(proxy, session, call, of(effort))
    assert (turn.template_options, turn.ignored_fields) == ({"enable_thinking": False}, [])


def test_a_switch_that_the_client_has_set_itself_stays(proxy: Proxy, session: str) -> None:
    asked = {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}}
    assert ask(proxy, session, CHAT, asked).template_options == {"enable_thinking": True}


@pytest.fixture(scope="module")
def levelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Of a model whose template has levels, none and high, and no switch."""
    options = {"template": LEVELS}
    choice = Choice(get_renderer("template", qwen3_tokenizer(), **options), "the test asked for it", options)
    settings = Settings(port=0, db=tmp_path_factory.mktemp("tape") / "tape.db")
    with running(playing(), choice, settings) as proxy:
        yield proxy


@pytest.mark.parametrize(("call", "of"), EFFORTS, ids=["chat", "responses", "messages"])
def test_an_effort_that_the_template_has_is_its_option(levelled: Proxy, session: str, call: Any, of: Any) -> None:
    high, none = ask(levelled, session, call, of("high")), ask(levelled, f"{session}-none", call, of("none"))
    assert (high.template_options, high.ignored_fields) == ({"reasoning_effort": "high"}, [])
    assert (none.template_options, none.ignored_fields) == ({"reasoning_effort": "none"}, [])


@pytest.mark.parametrize(("call", "of"), EFFORTS, ids=["chat", "responses", "messages"])
def test_an_effort_that_the_template_refuses_is_a_wish(levelled: Proxy, session: str, call: Any, of: Any) -> None:
    turn = ask(levelled, session, call, of("medium"))
    assert (turn.template_options, len(turn.ignored_fields)) == ({}, 1)


def test_what_would_change_what_is_sampled_is_refused(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(playing())
    for fields in ({"chat_template_kwargs": {"reasoning_effort": "high"}}, {"modalities": ["audio"]}):
        answer = proxy.chat(session, HELLO, **fields)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, next(iter(fields)))
        assert "__init__" not in error["message"]
        assert "renderer" not in error["message"]

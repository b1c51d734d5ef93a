"""Which function a tool result answers, for formats whose results bear its name."""

import pytest

from tickertape.renderers.format import Place
from tickertape.renderers.messages import Message, ToolCall

_CALLED = Message("assistant", tool_calls=(ToolCall("first", "{}", "a"), ToolCall("second", "{}", "b")))


def _named(*messages: Message, at: int, completion: tuple[ToolCall, ...] = ()) -> str | None:
    return Place(messages, at, 0, True, earlier_calls=lambda: completion).called_name()


def _result(call_id: str | None = None, name: str | None = None) -> Message:
    return Message("tool", "r", tool_call_id=call_id, name=name)


def test_the_id_decides_first() -> None:
    assert _named(_CALLED, _result("b", "another"), at=1) == "second"
    assert _named(_CALLED, _result("b"), _result("a"), at=2) == "first"


def test_the_id_of_an_older_call_is_found() -> None:
    later = Message("assistant", tool_calls=(ToolCall("third", "{}", "c"),))
    assert _named(_CALLED, later, _result("a"), at=2) == "first"


def test_an_unknown_id_leaves_it_to_the_name() -> None:
    assert _named(_CALLED, _result("x", "named"), at=1) == "named"


@pytest.mark.parametrize(("at", "expected"), [(1, "first"), (2, "second"), (3, "second")])
def test_without_id_and_name_results_come_in_the_order_of_the_calls(at: int, expected: str) -> None:
    assert _named(_CALLED, _result(), _result("x"), _result(), at=at) == expected


def test_behind_a_bridge_the_completions_calls_count() -> None:
    made = (ToolCall("first", "{}", "a"), ToolCall("second", "{}"))
    assert _named(_result("a"), _result("unknown"), at=0, completion=made) == "first"
    assert _named(_result("unknown"), _result("unknown"), at=1, completion=made) == "second"
    assert _named(_result("x"), _CALLED, _result("a"), at=2, completion=made) == "first"


def test_a_result_without_any_call_has_no_name() -> None:
    assert _named(Message("user", "q"), _result("a"), at=1) is None

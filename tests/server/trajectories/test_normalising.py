"""What of a message counts under each policy, case by case."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickertape.renderers.messages import Message, ToolCall
from tickertape.server.trajectories import normalising
from tickertape.server.trajectories.matching import canonical, context_digests
from tickertape.server.trajectories.normalising import POLICIES, policy_named

Pair = tuple[str, Message, Message]
BILLING = "x-anthropic-billing-header: cc_version=2.1.36; cc_entrypoint=cli; cch={};\nYou are Claude Code."
REMINDER = "<system-reminder>\nThe todo list is {}.\n</system-reminder>"


def called(arguments: object, name: str = "f", call_id: str | None = None, content: str | None = None) -> Message:
    return Message("assistant", content, tool_calls=(ToolCall(name, arguments, call_id),))  # type: ignore[arg-type]


def equal_for_strict() -> Iterator[Pair]:
    yield "null and empty content", Message("assistant", None), Message("assistant", "")
    yield "null and empty reasoning", Message("assistant", "x", reasoning=""), Message("assistant", "x")


def equal_for_default() -> Iterator[Pair]:
    yield "dropped reasoning", Message("assistant", "x", reasoning="why"), Message("assistant", "x")
    yield "key order and spaces", called('{"a":1, "b":[ true ]}'), called('{"b": [true], "a": 1}')
    yield "text and value", called('{"a":null}'), called({"a": None})
    yield "Python's booleans", called('{"a": false}'), called("{'a': False}")
    yield "whole floats", called('{"a": 1.0}'), called('{"a": 1}')
    yield "no arguments", called(""), called("{}")
    yield "escaped letters", called('{"a": "\\u00e9"}'), called('{"a": "é"}')
    yield "missing call ids", called("{}", call_id="call_1"), called("{}")
    yield "call ids made anew", called("{}", call_id="call_1"), called("{}", call_id="toolu_1")
    yield "renamed ids of results", Message("tool", "x", tool_call_id="1"), Message("tool", "x", tool_call_id="2")
    yield "name of a result", Message("tool", "x", tool_call_id="1", name="f"), Message("tool", "x", tool_call_id="1")
    yield "billing header", Message("system", BILLING.format("a1b2c")), Message("system", BILLING.format("ffff0"))
    yield "reminder behind", Message("user", "Go\n" + REMINDER.format("empty")), Message("user", "Go")
    yield "reminder before", Message("user", REMINDER.format("empty") + "\nGo"), Message("user", "Go")
    yield "reminder between", Message("user", f"One\n{REMINDER.format('full')}\nTwo"), Message("user", "One\nTwo")
    yield "another reminder", Message("tool", "x" + REMINDER.format("a")), Message("tool", "x" + REMINDER.format("b"))

    yield "white space around", Message("assistant", "\nx "), Message("assistant", "x")
    yield "white space around no text", called("{}", content="\n"), called("{}")
    yield "thought in content", Message("assistant", "<think>\nwhy\n</think>\n\nx"), Message("assistant", "x")
    yield "name of the model", Message("assistant", "x", name="model"), Message("assistant", "x")
    yield "words for no text", called("{}", content="(no content)"), called("{}")


def equal_for_loose() -> Iterator[Pair]:
    yield "white space around a user's words", Message("user", "\nx "), Message("user", "x")
    yield "names of users", Message("user", "x", name="ann"), Message("user", "x")


def different_for_all() -> Iterator[Pair]:
    yield "role", Message("user", "x"), Message("assistant", "x")
    yield "content", Message("user", "x"), Message("user", "x y")
    yield "inner white space", Message("user", "x y"), Message("user", "x  y")
    yield "name of a call", called("{}"), called("{}", "g")
    yield "a value", called('{"a": 1}'), called('{"a": 2}')
    yield "number and text", called('{"a": 1}'), called('{"a": "1"}')
    yield "true and one", called('{"a": true}'), called('{"a": 1}')
    yield "broken JSON", called('{"a": '), called('{"b": ')
    yield "calls or none", called("{}"), Message("assistant", None)
    yield "one call or two", called("{}"), Message("assistant", None, tool_calls=(ToolCall("f", "{}"),) * 2)
    yield "an empty result", Message("tool", ""), Message("tool", "x")
    yield "reminder in an assistant's words", Message("assistant", REMINDER.format("a")), Message("assistant", "")
    yield "words beside a reminder", Message("user", "Go\n" + REMINDER), Message("user", "Stop\n" + REMINDER)
    yield "unclosed reminder", Message("user", "x<system-reminder>"), Message("user", "x")
    yield "words beside the billing header", Message("system", BILLING + "."), Message("system", BILLING)


def cases() -> Iterator[tuple[str, Pair, bool]]:
    """For each policy: what its own level and those below it forgive, and nothing else."""
    levels = {"strict": equal_for_strict, "default": equal_for_default, "loose": equal_for_loose}
    for number, policy in enumerate(levels):
        for level, pairs in enumerate(levels.values()):
            yield from ((policy, pair, level <= number) for pair in pairs())
        yield from ((policy, pair, False) for pair in different_for_all())


@pytest.mark.parametrize(
    ("policy", "pair", "same"), [pytest.param(*case, id=f"{case[0]}: {case[1][0]}") for case in cases()]
)
def test_what_counts(policy: str, pair: Pair, same: bool) -> None:
    _, left, right = pair
    assert (canonical(left, POLICIES[policy], 0) == canonical(right, POLICIES[policy], 0)) == same


@pytest.mark.parametrize(
    ("policy", "message", "index"),
    [
        ("default", Message("user", REMINDER), 4),
        ("default", Message("system", "x-anthropic-billing-header: cch=1;"), 0),
        ("loose", Message("system", "The file has changed."), 4),
        ("loose", Message("developer", "The file has changed."), 4),
    ],
)
def test_messages_that_do_not_count_leave_the_digest_as_it_was(policy: str, message: Message, index: int) -> None:
    assert canonical(message, POLICIES[policy], index) is None
    said = [Message("user", f"m{k}") for k in range(9)]
    without = context_digests(said, POLICIES[policy])
    with_it = context_digests([*said[:index], message, *said[index:]], POLICIES[policy])
    assert [with_it[index], with_it[-1]] == [without[index - 1] if index else b"", without[-1]]


@pytest.mark.parametrize("message", [Message("user", ""), Message("assistant", None), Message("tool", REMINDER)])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_message_of_no_words_counts(policy: str, message: Message) -> None:
    assert canonical(message, POLICIES[policy], 1) is not None


def test_the_first_system_message_counts_for_loose_too() -> None:
    one, other = (canonical(Message("system", text), normalising.loose, 0) for text in ("one", "other"))
    assert one is not None
    assert one != other


def shouted(message: Message, _index: int) -> Message | None:
    """A user's own policy."""
    return Message(message.role, message.text.upper())


def test_a_policy_of_ones_own_is_found_by_its_dotted_path() -> None:
    assert policy_named("tests.server.trajectories.test_normalising.shouted") is shouted
    assert [policy_named(name) for name in POLICIES] == list(POLICIES.values())


@pytest.mark.parametrize(
    "name", ["lose", "tests.server.nowhere.shouted", "tests.server.trajectories.test_normalising.nothing", ""]
)
def test_a_policy_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"matching '{name}'"):
        policy_named(name)


#: What models and clients write for arguments by mistake, each once the cause of an error.
MISTAKES = [
    '{{"city": "Rome"}}', "{{}}", '{["a"]: 1}', "{{'a': 1}: 2}", "{'b', 'a', 'c'}", "b'x'", "1j", "f(1)", "...",
    "9" * 5000, "0x" + "f" * 5000, f'{{"n": {"9" * 5000}}}', f'{{"n": 1e{"9" * 50}}}', '{"n": NaN}', '{1: 2, "a": 3}',
    '{"a": "\\ud800"}', "{'a': '\\ud800'}", "{'a': '\\U0011ffff'}", '{"a": 1, "a": {}}', "\x00", "{'a': ", "{",
    "'" * 99,
]  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_mistake_in_arguments_is_compared_and_not_raised(policy: str, text: str) -> None:
    mistaken = canonical(called(text), POLICIES[policy], 1)
    assert mistaken == canonical(called(text), POLICIES[policy], 1)
    assert mistaken != canonical(called(text + "x"), POLICIES[policy], 1)


def test_arguments_are_compared_alike_in_every_process() -> None:
    """Whatever the order of a set's members is there, and however deep the caller stands."""
    texts = [*MISTAKES, *(opening * deep for opening in ('{"a":', "[") for deep in (100, 128, 129, 300, 900, 1000))]
    texts += ["[" * deep + "]" * deep for deep in (100, 128, 129, 300, 900, 1000)]
    program = (
        "import sys, json\n"
        "from tickertape.server.trajectories.normalising import canonical_arguments as c\n"
        "def at(depth, text): return c(text) if not depth else at(depth - 1, text)\n"
        "sys.setrecursionlimit(10_000)\n"
        "print(json.dumps([at(int(sys.argv[1]), text) for text in json.load(sys.stdin)]))"
    )
    found = []
    for seed in ("1", "2"):
        command = [sys.executable, "-c", program, str(int(seed) * 400)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, input=json.dumps(texts), env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[0] == found[1] == [normalising.canonical_arguments(text) for text in texts]


@given(st.text(max_size=50) | st.text("{}[]()'\"\\,:0ea1 -\n", max_size=30))
def test_arguments_of_any_text_have_a_canonical_form(text: str) -> None:
    message = called(text.encode("utf-8", "ignore").decode())
    assert canonical(message) == canonical(message)


def test_deeply_nested_arguments_have_a_canonical_form() -> None:
    for text in ("[" * 100_000, '{"a":' * 5_000, "(" * 5_000):
        canonical(called(text))


def test_long_messages_with_half_a_reminder_are_read_in_time() -> None:
    hostile = "\n" * 20_000 + "<system-reminder>" * 20_000 + "</system-reminder>\n" * 20_000
    started = time.perf_counter()
    assert canonical(Message("user", hostile)) is not None
    assert time.perf_counter() - started < 1, "the time grows with the length, not with its square"

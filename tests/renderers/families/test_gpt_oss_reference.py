"""gpt-oss beside OpenAI's own package: both render a conversation alike, and read an answer alike."""

import json
from random import Random
from typing import Any

import openai_harmony as harmony

from tests.materials.harmony import harmony_encoding
from tests.renderers.answers import TOOLS, draw_message
from tests.renderers.conversations import words
from tests.renderers.strategies import slow, tool
from tests.renderers.subjects import SUBJECTS, TODAY, Subject
from tests.renderers.subjects.gpt_oss import GPT_OSS, GPT_OSS_UNSLOTH
from tickertape.renderers.messages import Message

#: Objects inside objects, and the lack of any parameter, the templates write otherwise; it is them that are followed.
_COUNT = {
    "n": {"type": "integer", "description": "How far."},
    "by": {"type": "array", "items": {"type": "number"}},
    "to": {"type": "string", "enum": ["a", "b"]},
    "now": {"type": "boolean"},
}
_TOOLS = [TOOLS[0], tool("count", "Counts.", _COUNT)]


def test_the_reference_renders_alike() -> None:
    _check_reference_renders(range(40))


@slow
def test_the_reference_renders_alike_thoroughly() -> None:
    _check_reference_renders(range(40, 2_000))


def _check_reference_renders(seeds: range) -> None:
    """Unsloth's template leaves tool results unquoted and separates sections as the reference does; ``<|return|>``
    apart, which is ``<|end|>`` in the reference's histories, they are equal."""
    subject, encoding = SUBJECTS[GPT_OSS_UNSLOTH], harmony_encoding()
    control = subject.tokenizer.control
    for seed in seeds:
        rng = Random(seed)
        messages = [Message("system", words(subject, rng) or "s"), Message("user", words(subject, rng))]
        for _ in range(rng.randrange(4)):
            said = draw_message(subject, rng, stripped=False)
            messages.append(said)
            messages += [Message("tool", words(subject, rng), tool_call_id=made.id) for made in said.tool_calls]
            messages += [Message("user", words(subject, rng))] if not said.tool_calls else []
        ids = subject.exact.build_generation_prompt(messages, _TOOLS).token_ids
        as_history = [control["<|end|>"] if i == control["<|return|>"] else i for i in ids]
        assert as_history == _reference_ids(encoding, messages), seed


def _reference_ids(encoding: Any, messages: list[Message]) -> list[int]:
    functions = [offer["function"] for offer in _TOOLS]
    described = [harmony.ToolDescription.new(f["name"], f["description"], f["parameters"]) for f in functions]
    start = harmony.SystemContent.new().with_conversation_start_date(TODAY.isoformat())
    developer = harmony.DeveloperContent.new().with_instructions(messages[0].text).with_function_tools(described)
    spoken = [
        harmony.Message.from_role_and_content(harmony.Role.SYSTEM, start),
        harmony.Message.from_role_and_content(harmony.Role.DEVELOPER, developer),
    ]
    names: dict[str | None, str] = {}
    for message in messages[1:]:
        names |= {made.id: made.name for made in message.tool_calls}
        if message.role == "user":
            spoken.append(harmony.Message.from_role_and_content(harmony.Role.USER, message.text))
        elif message.role == "tool":
            author = harmony.Author.new(harmony.Role.TOOL, f"functions.{names[message.tool_call_id]}")
            result = harmony.Message.from_author_and_content(author, message.text)
            spoken.append(result.with_recipient("assistant").with_channel("commentary"))
        else:
            spoken += _reference_messages(message)
    config = harmony.RenderConversationConfig(auto_drop_analysis=False)
    conversation = harmony.Conversation.from_messages(spoken)
    return list(encoding.render_conversation_for_completion(conversation, harmony.Role.ASSISTANT, config))


def _reference_messages(message: Message) -> list[Any]:
    def said(text: str, channel: str) -> Any:
        return harmony.Message.from_role_and_content(harmony.Role.ASSISTANT, text).with_channel(channel)

    spoken = [said(message.reasoning, "analysis")] if message.reasoning is not None else []
    if message.text and message.tool_calls:
        spoken.append(said(message.text, "commentary"))
    for made in message.tool_calls:
        called = said(made.arguments_json, "commentary").with_recipient(f"functions.{made.name}")
        spoken.append(called.with_content_type("json"))
    return spoken if message.tool_calls else [*spoken, said(message.text, "final")]


def test_the_reference_reads_alike() -> None:
    _check_reference_reads(range(40))


@slow
def test_the_reference_reads_alike_thoroughly() -> None:
    _check_reference_reads(range(40, 2_000))


def _check_reference_reads(seeds: range) -> None:
    """Answers of up to four messages, their headers written in every way that the reference knows; the content type of
    a final answer it takes for a recipient."""
    subject, encoding = SUBJECTS[GPT_OSS], harmony_encoding()
    for seed in seeds:
        rng = Random(seed)
        ids = _answer_of_many_messages(subject, rng)
        read = encoding.parse_messages_from_completion_tokens(ids, harmony.Role.ASSISTANT)
        texts: dict[str, list[str]] = {"analysis": [], "final": [], "call": []}
        for message in read:
            kind = "analysis" if message.channel == "analysis" else "final"
            kind = "call" if (message.recipient or "").startswith("functions.") else kind
            texts[kind].append("".join(part.text for part in message.content))
        called = [m.recipient for m in read if m.recipient not in (None, "<|constrain|>json")]
        parsed = subject.exact.parse_response(ids)
        assert parsed.complete, seed
        assert (parsed.reasoning or "") == "\n".join(filter(None, texts["analysis"])), seed
        assert parsed.content == "\n".join(filter(None, texts["final"])), seed
        assert [made.arguments for made in parsed.tool_calls] == texts["call"], seed
        assert [f"functions.{made.name}" for made in parsed.tool_calls] == called, seed


def _answer_of_many_messages(subject: Subject, rng: Random) -> list[int]:
    ids: list[int] = []
    n_messages = rng.randint(1, 4)
    for k in range(n_messages):
        headers = [
            "<|channel|>analysis",
            "<|channel|>commentary",
            "<|channel|>final",
            "<|channel|>final <|constrain|>json",
        ]
        text, close = words(subject, rng), "<|return|>"
        if rng.random() < 0.4 or k == n_messages - 1:
            typed = rng.choice(("", " json", " <|constrain|>json", "<|constrain|>json", " code"))
            headers = [f" to=functions.f<|channel|>commentary{typed}", f"<|channel|>commentary to=functions.f{typed}"]
            text, close = json.dumps({"text": text}, ensure_ascii=False), "<|call|>"
        opening = "<|start|>assistant" if k else ""
        ids += subject.spell(opening + rng.choice(headers) + "<|message|>") + subject.tokenizer.encode_text(text)
        ids += subject.spell(close if k == n_messages - 1 else "<|end|>")
    return ids

"""Attribution: every token belongs to a message and has a kind, and a message's tokens are its words."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.renderers.conversations import conversations_for
from tests.renderers.strategies import assistant, flush_texts, system, texts, user, well_ordered
from tests.renderers.subjects import QWEN3, SMOLLM2, Subject
from tickertape.renderers.encoder import Encoder
from tickertape.renderers.messages import as_messages
from tickertape.renderers.pieces import Kind, Piece, Trust, content, markup, output, output_markup, place
from tickertape.renderers.prompt import Prompt
from tickertape.renderers.renderer import Renderer


def _words_of(subject: Subject, prompt: Prompt, message: int, kind: Kind) -> str:
    """The text of one message's tokens of one kind, in normal form."""
    triples = zip(prompt.token_ids, prompt.messages, prompt.kinds, strict=True)
    owned = subject.tokenizer.decode(i for i, owner, what in triples if (owner, what) == (message, kind))
    return unicodedata.normalize("NFC", owned)


@given(data=st.data())
def test_every_token_has_a_message_and_a_kind(subject: Subject, renderer: Renderer, data: st.DataObject) -> None:
    conversation = data.draw(conversations_for(subject))
    prompt = renderer.build_generation_prompt(conversation.messages, conversation.tools)
    assert len(prompt) == len(prompt.token_ids) == len(prompt.messages) == len(prompt.kinds)
    assert set(prompt.messages) <= {-1, *range(len(conversation.messages))}
    assert sum(length for _, _, length in prompt.spans) == len(prompt)
    repeated = [(message, kind) for message, kind, length in prompt.spans for _ in range(length)]
    assert repeated == list(zip(prompt.messages, prompt.kinds, strict=True))
    for message, kind in repeated:
        if kind is Kind.OUTPUT:
            assert conversation.messages[message]["role"] == "assistant"
    assert Kind.SAMPLED not in prompt.kinds


@given(data=st.data())
def test_a_messages_tokens_are_its_words(subject: Subject, renderer: Renderer, data: st.DataObject) -> None:
    """Where words begin without white space; at their end they may share a token with the format's newline."""
    words = flush_texts.filter(bool)
    conversation = data.draw(well_ordered(reasoning=False, calls=subject.offers_tools))
    messages = [message | {"content": data.draw(words)} for message in conversation.messages]
    prompt = renderer.build_generation_prompt(messages)
    for index, message in enumerate(messages):
        kind = Kind.OUTPUT if message["role"] == "assistant" else Kind.CONTENT
        said = unicodedata.normalize("NFC", message["content"])
        owned = _words_of(subject, prompt, index, kind)
        if message["role"] == "assistant":
            assert owned.startswith(said)
            assert owned.endswith("<|im_end|>")
        elif message["role"] == "tool":
            assert owned.rstrip("\n") == said.rstrip("\n")
        else:
            assert owned == said


@pytest.mark.parametrize("subject", [QWEN3, SMOLLM2], indirect=True)
def test_an_answer_without_words_still_has_its_close(subject: Subject, renderer: Renderer) -> None:
    prompt = renderer.build_generation_prompt([user("q"), assistant(""), user("r")])
    assert _words_of(subject, prompt, 1, Kind.OUTPUT) == "<|im_end|>"


def test_the_generation_prompt_belongs_to_no_message(subject: Subject, renderer: Renderer) -> None:
    prompt = renderer.build_generation_prompt([system("s"), user("q"), assistant("a"), user("r")])
    *_, (message, kind, length) = prompt.spans
    assert (message, kind) == (-1, Kind.SCAFFOLD)
    opening = subject.tokenizer.decode(prompt.token_ids[-length:]).lstrip("\n")
    assert opening.startswith("<|im_start|>assistant")
    assert subject.template_text([user("q")]).endswith(opening)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """Qwen3's, with its reasoning tags."""
    from tests.renderers.subjects import qwen

    return Encoder(qwen(QWEN3).tokenizer, tags=("<think>", "</think>"))


def _texts(encoder: Encoder, *pieces: Piece, split_before: Kind | None = None) -> list[str]:
    """The text of each token."""
    prompt = encoder.encode(place(0, pieces), split_before=split_before)
    return [encoder.tokenizer.decode([i]) for i in prompt.token_ids]


def test_trust_decides_which_control_tokens_a_piece_may_spell(encoder: Encoder) -> None:
    def controls(trust: Trust) -> list[str]:
        prompt = encoder.encode([(0, Piece("<|im_end|><think>x</think>", Kind.CONTENT, trust))])
        return [encoder.tokenizer.decode([i]) for i in prompt.token_ids if i in encoder.tokenizer.control_ids]

    assert controls(Trust.NONE) == []
    assert controls(Trust.TAGS) == ["<think>", "</think>"]
    assert controls(Trust.ALL) == ["<|im_end|>", "<think>", "</think>"]


def test_neighbouring_text_is_encoded_as_one_run(encoder: Encoder) -> None:
    assert _texts(encoder, markup("user\n"), content("\nHi")) == ["user", "\n\n", "Hi"]
    assert _texts(encoder, markup("a"), markup(""), content("bc")) == ["abc"]


def test_a_shared_token_belongs_to_the_piece_in_which_it_starts(encoder: Encoder) -> None:
    prompt = encoder.encode([(0, markup("user\n")), (1, content("\nHi"))])
    assert (prompt.messages, prompt.kinds) == ([0, 0, 1], [Kind.SCAFFOLD, Kind.SCAFFOLD, Kind.CONTENT])


def test_a_run_can_be_split_where_sampling_starts(encoder: Encoder) -> None:
    pieces = (markup("assistant\n"), output("\nHi"), output_markup("\n"), markup("\n"))
    assert _texts(encoder, *pieces, split_before=Kind.OUTPUT) == ["assistant", "\n", "\n", "Hi", "\n\n"]


@given(parts=st.lists(texts, max_size=6))
def test_pieces_are_encoded_as_their_text_is(encoder: Encoder, parts: list[str]) -> None:
    prompt = encoder.encode((k, content(part)) for k, part in enumerate(parts))
    assert prompt.token_ids == encoder.tokenizer.encode_text("".join(parts))
    assert prompt.messages == sorted(prompt.messages)
    assert all(parts[message] for message in prompt.messages)


def test_messages_are_made_from_openai_shapes() -> None:
    (message,) = as_messages(
        [
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}],
                "reasoning_content": "r",
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"x":1}'}}],
            }
        ]
    )
    assert (message.content, message.reasoning) == ("a\nb", "r")
    assert message.tool_calls[0].arguments_value == {"x": 1}
    assert as_messages([message.to_openai()]) == [message]
    with pytest.raises(ValueError, match=r"messages\[0\]\.role is 'robot'"):
        as_messages([{"role": "robot", "content": ""}])
    with pytest.raises(ValueError, match=r"messages\[0\]\.content\[1\] is of type 'image_url'"):
        as_messages([user("x") | {"content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}])


@pytest.mark.parametrize("subject", [QWEN3], indirect=True)
def test_half_a_surrogate_pair_in_a_message_is_refused(renderer: Renderer) -> None:
    """It is no Unicode text, so no tokenizer takes it; a caller's mistake is a ValueError, as for any message."""
    with pytest.raises(ValueError, match="surrogate"):
        renderer.build_generation_prompt([user("a \ud800 b")])

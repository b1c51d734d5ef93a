"""Behind a bridge, results that come in another order than the calls name the functions that they answer.

Formats in the manner of Gemma 4 and gpt-oss, which print the name of the function with its result: a page of its own,
and a chat template that looks the name up by the call's id, as Gemma 4's does.
"""

from collections.abc import Iterator

import pytest

from tests.materials import qwen3_dir
from tickertape.renderers.families.chatml import HERMES
from tickertape.renderers.families.qwen3 import Qwen3Instruct2507
from tickertape.renderers.format import Place
from tickertape.renderers.messages import Message, ToolCall
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.template.renderer import TemplateRenderer
from tickertape.renderers.tokenizer import Tokenizer

NAMING_TEMPLATE = """\
{%- for message in messages %}
  {%- if message.role == 'tool' %}
    {%- set ns = namespace(name=message.get('name', 'unknown')) %}
    {%- for earlier in messages[:loop.index0] %}
      {%- for call in earlier.tool_calls or [] %}
        {%- if call.id == message.tool_call_id %}{% set ns.name = call.function.name %}{% endif %}
      {%- endfor %}
    {%- endfor %}
    {{- '<|im_start|>tool:' + ns.name + '\\n' + message.content + '<|im_end|>\\n' }}
  {%- else %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content }}
    {%- for call in message.tool_calls or [] %}
      {{- '\\n' if not loop.first else '' }}
      {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) }}
      {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""


class NamingPage(Qwen3Instruct2507):
    """ChatML whose results bear names."""

    response = ResponseFormat(tool_calls=HERMES)

    def turn(self, place: Place) -> Iterator[Piece]:
        if place.message.role != "tool":
            yield from super().turn(place)
            return
        yield markup("<|im_start|>tool:")
        yield content(f"{place.called_name()}\n{place.message.text}")
        yield markup("<|im_end|>\n")


@pytest.fixture(scope="module", params=["page", "template"])
def renderer(request: pytest.FixtureRequest) -> Renderer:
    tokenizer = Tokenizer.load(qwen3_dir())
    return NamingPage(tokenizer) if request.param == "page" else TemplateRenderer(tokenizer, template=NAMING_TEMPLATE)


ASKED = [Message("user", "Weather and time?")]
CALLS = (ToolCall("weather", {"city": "Bern"}, "call_w"), ToolCall("clock", {"city": "Bern"}, "call_c"))
SWAPPED = [Message("tool", "noon", tool_call_id="call_c"), Message("tool", "rain", tool_call_id="call_w")]


def test_a_bridge_that_knows_the_ids_is_what_rendering_would_be(renderer: Renderer) -> None:
    called = Message("assistant", "", tool_calls=CALLS)
    prompt = renderer.build_generation_prompt(ASKED).token_ids
    whole = renderer.build_generation_prompt([*ASKED, called, *SWAPPED]).token_ids
    sampled = whole[len(prompt) :]
    end = renderer.get_stop_sequences()[0]
    completion = sampled[: sampled.index(end) + 1]
    suffix = renderer.bridge_suffix(
        completion, SWAPPED, prompt_ids=prompt, call_ids=[call.id for call in CALLS]
    ).token_ids
    assert prompt + completion + suffix == whole
    text = renderer.tokenizer.decode(suffix)
    assert text.index("tool:clock\nnoon") < text.index("tool:weather\nrain")


@pytest.mark.parametrize("ids", [[], [None, None], ["other_1", "other_2"]])
def test_ids_that_say_nothing_leave_it_to_the_order(renderer: Renderer, ids: list[str | None]) -> None:
    called = Message("assistant", "", tool_calls=CALLS)
    prompt = renderer.build_generation_prompt(ASKED).token_ids
    sampled = renderer.build_conversation([*ASKED, called]).token_ids[len(prompt) :]
    completion = sampled[: sampled.index(renderer.get_stop_sequences()[0]) + 1]
    suffix = renderer.bridge_suffix(completion, SWAPPED, prompt_ids=prompt, call_ids=ids).token_ids
    assert "tool:weather\nnoon" in renderer.tokenizer.decode(suffix)

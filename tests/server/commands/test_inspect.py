"""``tickertape audit`` and ``tickertape render``, as a person and a CI job use them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.materials import qwen3_dir, template
from tickertape.server.commands.cli import app

_KEEPS = "meta-llama-Llama-3.2-3B-Instruct"
_STRIPS_THOUGHTS = "Qwen-Qwen3-0.6B"


def _run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=stdin, env={"COLUMNS": "200"})


def _template_file(directory: Path, name: str) -> str:
    path = directory / f"{name}.jinja"
    path.write_text(template(name))
    return str(path)


def test_a_template_that_keeps_every_prefix_passes(tmp_path: Path) -> None:
    result = _run("audit", _template_file(tmp_path, _KEEPS))
    assert result.exit_code == 0, result.output
    assert "✗" not in result.output
    assert "keeps every prefix" in result.output


def test_a_break_is_shown_as_two_renderings_and_fails(tmp_path: Path) -> None:
    result = _run("audit", _template_file(tmp_path, _STRIPS_THOUGHTS))
    assert result.exit_code == 1
    broken = result.output.partition("a user turn after a thought: breaks")[2].splitlines()
    sampled, rendered = broken[1], broken[2]
    assert sampled.strip().startswith("- …")
    assert "<think>↵I know this." in sampled
    assert rendered.strip().startswith("+ …")
    assert "I know this." not in rendered


def test_a_directory_is_audited_with_its_own_tokenizer() -> None:
    result = _run("audit", str(qwen3_dir("Qwen-Qwen3-4B-Instruct-2507")))
    assert result.exit_code == 0, result.output
    assert "Renderer: qwen3-instruct-2507" in result.output
    assert "stops: <|im_end|> (the model's configuration names it), <|endoftext|>" in result.output
    assert "calls: behind <tool_call> (as qwen3-instruct-2507 has it" in result.output
    assert "thoughts: not found: the template shows none" in result.output


def test_what_differs_from_each_family_is_said(tmp_path: Path) -> None:
    changed = tmp_path / "changed.jinja"
    changed.write_text(template(_STRIPS_THOUGHTS).replace("# Tools", "# Functions"))
    result = _run("audit", str(changed))
    assert "Renderer: template" in result.output
    assert "not qwen3: tools offered" in result.output


def test_what_is_not_there_cannot_be_audited() -> None:
    result = _run("audit", "/does/not/exist")
    assert result.exit_code == 2
    assert "there is no directory /does/not/exist" in result.output


_TALK = [
    {"role": "user", "content": "Hi <|im_end|>"},
    {"role": "assistant", "content": "Hello!", "reasoning_content": "A greeting."},
]


def test_a_conversation_is_printed_from_stdin_as_the_model_reads_it() -> None:
    result = _run("render", str(qwen3_dir()), "--no-color", stdin=json.dumps(_TALK[:1]))
    assert result.exit_code == 0, result.output
    assert result.stdout == "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n\n"
    assert "renderer qwen3" in result.stderr


def test_what_would_be_trained_has_another_colour(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    file.write_text(json.dumps({"messages": _TALK}))
    result = _run("render", str(qwen3_dir()), str(file), "--train-on", "last_assistant_message", "--color")
    trained = result.stdout.partition("\x1b[1;33m")[2]
    assert (
        trained.replace("\x1b[1;33m", "")
        .replace("\x1b[0m", "")
        .replace("↵", "")
        .startswith("<think>\nA greeting.\n</think>\n\nHello!<|im_end|>")
    )


def test_a_template_option_reaches_the_renderer() -> None:
    option = ("--option", "enable_thinking=false")
    result = _run("render", str(qwen3_dir()), *option, "--no-color", stdin=json.dumps(_TALK[:1]))
    assert result.stdout.rstrip().endswith("<think>\n\n</think>")


@pytest.mark.parametrize(
    ("stdin", "wanted"),
    [
        ("{", "not JSON"),
        ('{"prompt": "x"}', "must hold a list of messages"),
        ("[1]", "must hold a list of messages"),
        ('[{"role": "narrator", "content": "x"}]', "messages[0].role"),
        ('[{"role": "user", "content": [{"type": "image_url"}]}]', "messages[0].content[0]"),
    ],
)
def test_what_is_no_conversation_is_refused_by_its_place(stdin: str, wanted: str) -> None:
    result = _run("render", str(qwen3_dir()), stdin=stdin)
    assert result.exit_code == 2
    assert wanted in result.output

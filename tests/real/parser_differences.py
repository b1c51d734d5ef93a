"""What vLLM's parsers and ours make of the same completions, and the names of what differs.

``python -m tests.real.parser_differences`` writes ``docs/parsers.md``.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.real.engines import LAYOUTS, installed
from tests.renderers.answers import TOOLS
from tests.renderers.mutations import Mutator
from tests.renderers.subjects import SUBJECTS, Subject
from tickertape.renderers.prompt import CallStatus, ParsedResponse

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "parsers.md"

#: Subject, and the names of vLLM's tool parser and reasoning parser for its model.
FAMILIES: dict[str, tuple[str, str | None]] = {
    "qwen3": ("hermes", "qwen3"),
    "qwen3-instruct-2507": ("hermes", None),
    "qwen3-coder": ("qwen3_coder", None),
    "qwen3.5": ("qwen3_coder", "qwen3"),
    "nemotron-3-nano": ("qwen3_coder", "nemotron_v3"),
    "glm-4.5": ("glm45", "glm45"),
    "glm-5.2": ("glm47", "glm47"),
    "kimi-k2": ("kimi_k2", None),
    "kimi-k2.5": ("kimi_k2", "kimi_k2"),
    "deepseek-v3.1": ("deepseek_v31", None),
    "deepseek-v3.2": ("deepseek_v32", None),
    "deepseek-v4-encoder": ("deepseek_v4", "deepseek_v4"),
    "minimax-m2": ("minimax_m2", "minimax_m2"),
    "seed-oss": ("seed_oss", "seed_oss"),
    "gemma4": ("gemma4", "gemma4"),
    "granite-4.0": ("granite4", None),
    "llama3.1": ("llama3_json", None),
}

#: Why the two read something differently, by name.
REASONS = {
    "raises": "vLLM's parser raises, or gives no answer within seconds; ours reads what is there",
    "malformed": "a call that is broken (our status `malformed`, `invalid_json` or `unclosed`) is delivered with "
    "its status, as far as it was written; vLLM drops it, leaves it as text, or delivers other "
    "arguments",
    "unreadable": "tags of a call around what is no call stay content as written; vLLM drops the text, or gives a "
    "call without a sound name",
    "repaired": "what can only be one offered tool is that call, with the status `repaired`; vLLM reads it otherwise",
    "unknown tool": "a call of a tool that was not offered has the status `unknown_tool`; vLLM leaves it out",
    "draft": "a call inside a thought stays there if the thought is closed later or was cut off; vLLM's "
    "parsers, which do not know how the completion ended, do as they find a tag",
    "several thoughts": "a second thought, or a stray tag of one, is read as a thought again; vLLM splits once, and "
    "leaves the tags in the content or the thought",
    "words around calls": "words behind and between calls are content; vLLM keeps those before the first call, or "
    "none, or then reads no call",
    "no thought": "what opens no thought is content where the prompt opened none; vLLM, which does not see the "
    "prompt, takes it for a thought",
    "values": "a value without a type is typed by the tool's schema, or is text where it fits no type; vLLM "
    "converts it otherwise",
    "stray tags": "a tag of the format where it opens nothing is no word of the content; vLLM leaves it there, or "
    "the other way round",
}


@dataclass
class Differences:
    """Of one family.

    Attributes:
        alike: completions in which calls, content and reasoning are the same, but for white space at the ends.
        named: how many differ, by the reason.
        unnamed: those for which no reason fits: text, ours, theirs.
    """

    family: str
    alike: int = 0
    named: Counter[str] = field(default_factory=Counter)
    unnamed: list[tuple[str, Any, Any]] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.alike + self.named.total() + len(self.unnamed)


def compare(families: Sequence[str], n_completions: int, patience: float = 600.0) -> list[Differences]:
    """Both parsers on so many completions of each family."""
    texts = {name: _completions(SUBJECTS[name], n_completions) for name in families}
    theirs = _theirs(texts, patience)
    found = []
    for name in families:
        differences = Differences(name)
        for text, read in zip(texts[name], theirs[name], strict=True):
            _note(differences, SUBJECTS[name], text, read)
        found.append(differences)
    return found


def _completions(subject: Subject, n_completions: int) -> list[str]:
    """Texts of completions without their stop tokens, as an engine's parsers are given them: a fourth well-formed."""
    mutated, stops = Mutator(subject), frozenset(subject.exact.get_stop_sequences())
    texts = []
    for seed in range(n_completions):
        ids = mutated(seed)
        end = next((k for k, i in enumerate(ids) if i in stops), len(ids))
        texts.append(subject.tokenizer.decode(ids[:end]))
    return texts


def _theirs(texts: dict[str, list[str]], patience: float) -> dict[str, list[Any]]:
    with tempfile.TemporaryDirectory() as work:
        jobs = []
        for name in texts:
            tool_parser, reasoning_parser = FAMILIES[name]
            directory = Path(work) / name
            directory.mkdir()
            SUBJECTS[name].tokenizer.backend.save(str(directory / "tokenizer.json"))
            config = {"tokenizer_class": "PreTrainedTokenizerFast", **SUBJECTS[name].tokenizer.special_tokens}
            (directory / "tokenizer_config.json").write_text(json.dumps(config))
            jobs.append(
                {
                    "directory": str(directory),
                    "tool_parser": tool_parser,
                    "reasoning_parser": reasoning_parser,
                    "tools": TOOLS,
                    "texts": texts[name],
                }
            )
        done = subprocess.run(
            [str(installed("vllm") / "bin" / "python"), str(Path(__file__).parent / "engine_parsers.py")],
            input=json.dumps(jobs),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=patience,
            env={**os.environ, **LAYOUTS["vllm"].environment, "VLLM_LOGGING_LEVEL": "ERROR"},
        )
    results = json.loads(done.stdout.splitlines()[-1])
    return dict(zip(texts, results, strict=True))


def _note(differences: Differences, subject: Subject, text: str, theirs: Any) -> None:
    renderer = subject.exact
    # Without the stop token: an engine's parsers are not told whether one came.
    ours = renderer.parse_response(renderer.tokenizer.encode_like_model(text), TOOLS)
    if (reason := _reason(subject, text, ours, theirs)) is None:
        differences.alike += 1
    elif reason in REASONS:
        differences.named[reason] += 1
    else:
        differences.unnamed.append((text, ours, theirs))


def _reason(subject: Subject, text: str, ours: ParsedResponse, theirs: Any) -> str | None:
    """The name of what differs; ``None`` where nothing does, empty where no name fits."""
    if "error" in theirs:
        return "raises"
    made = [(call.name, _value(call.arguments_json)) for call in ours.tool_calls]
    taken = [(name, _value(arguments)) for name, arguments in theirs["calls"]]
    words, thought = _bare(theirs["content"]), _bare(theirs["reasoning"])
    if made == taken and _bare(ours.content) == words and _bare(ours.reasoning) == thought:
        return None
    statuses = {call.status for call in ours.calls}
    reasoning = subject.exact.response_format.reasoning
    calls = subject.exact.response_format.tool_calls
    opens = calls.opens if calls else ()
    n_tags = sum(text.count(tag) for tag in (reasoning.open, reasoning.close)) if reasoning else 0
    if any(tag in (ours.reasoning or "") for tag in opens) or any(tag in (theirs["reasoning"] or "") for tag in opens):
        return "draft"
    if reasoning and (
        n_tags > 2
        or text.find(reasoning.open) > text.find(reasoning.close) >= 0
        or reasoning.close in words
        or any(reasoning.open in said for said in (words, thought, _bare(ours.reasoning)))
    ):
        return "several thoughts"
    if any(call.call is None for call in ours.calls):
        return "unreadable"
    if statuses & {CallStatus.MALFORMED, CallStatus.INVALID_JSON, CallStatus.UNCLOSED}:
        return "malformed"
    for status, name in ((CallStatus.REPAIRED, "repaired"), (CallStatus.UNKNOWN_TOOL, "unknown tool")):
        if status in statuses:
            return name
    if thought and not n_tags and ours.reasoning is None:
        return "no thought"
    if made and not taken and ours.content.strip():
        return "words around calls"
    if made == taken and _bare(ours.reasoning) == thought and made and len(words) <= len(_bare(ours.content)):
        return "words around calls"
    if [name for name, _ in made] == [name for name, _ in taken] and made != taken:
        return "values"
    tags = re.compile("|".join(map(re.escape, (*subject.exact.response_format.tags, *subject.tokenizer.control))))
    said = (words, thought, ours.content, ours.reasoning or "")
    if any(map(tags.search, said)) or (reasoning and n_tags not in (0, 2)):
        return "stray tags"
    return ""


def _value(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _bare(text: str | None) -> str:
    return "\n".join(line.strip() for line in (text or "").split("\n") if line.strip())


def write(found: Sequence[Differences]) -> str:
    """The page."""
    lines = [
        "# Our parsers beside vLLM's",
        "",
        "The same completions through vLLM 0.32's tool and reasoning parsers and through ours: well-formed, cut,",
        "spliced, with tags and noise in them. Alike means the same calls, content and reasoning, but for white space",
        "around lines. Regenerate with `python -m tests.real.parser_differences`; a `real` test holds that every",
        "difference has a name.",
        "",
        "| family | vLLM's parsers | completions | alike | differences, by name |",
        "|---|---|---:|---:|---|",
    ]
    for each in found:
        parsers = ", ".join(f"`{name}`" for name in FAMILIES[each.family] if name)
        named = ", ".join(f"{name}: {count}" for name, count in each.named.most_common()) or "none"
        unnamed = f", unnamed: {len(each.unnamed)}" if each.unnamed else ""
        lines.append(f"| {each.family} | {parsers} | {each.total:,} | {each.alike:,} | {named}{unnamed} |")
    lines += ["", "| name | what differs, and why ours does so |", "|---|---|"]
    lines += [f"| {name} | {reason} |" for name, reason in REASONS.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.real.parser_differences")
    options.add_argument("--completions", type=int, default=1000, help="for each family")
    options.add_argument("--show", type=int, default=0, help="so many of the differences without a name")
    options.add_argument("families", nargs="*")
    given = options.parse_args()
    found = compare(given.families or list(FAMILIES), given.completions)
    if not given.families:
        DOCUMENT.write_text(write(found), encoding="utf-8")
    for each in found:
        print(each.family, each.total, "alike", each.alike, dict(each.named), "unnamed", len(each.unnamed))
        for text, ours, theirs in each.unnamed[: given.show]:
            print(
                "  ",
                repr(text),
                "\n     ours  ",
                ours.reasoning,
                "|",
                ours.content,
                "|",
                ours.calls,
                "\n     theirs",
                theirs,
            )


if __name__ == "__main__":
    main()

"""Texts that models and clients write by mistake or on purpose, from a seed."""

from random import Random

#: What arguments, JSON, Python and their imitations are made of.
_PIECES = (
    "{", "}", "[", "]", "(", ")", "{{", "}}", ":", ",", ", ", ": ", '"', "'", '"""', "\\", "\\\\", "\\n", "\\u00e9",
    "\\ud800", "\\udc00", "\\x41", "\\N{DASH}", "null", "None", "true", "True", "false", "NaN", "nan", "Infinity", "-",
    "0", "1", "-1", "1.0", "1e9", "1e999", "0x1f", "1_000", "1j", "9" * 30, "9" * 5000, "b'x'", "f'{x}'", "r'\\d'", "*",
    "**", "a", "city", '"city"', "'city'", "Rome", '"Rome"', '{"a": 1}', "{'a': 1}", '{"a"}', "{{}}", '{["a"]: 1}',
    "{'b', 'a'}", "(1,)", "...", "lambda: 0", "f(x)", "__import__('os')", "#", "\n", "\t", " ", "\r\n", "\x00", "\x7f",
    "\u2028", "\ufeff", "\u200b", "é", "e\u0301", "漢", "👩‍👩‍👧", "𓀀", "<", ">", "</", "/>", "&lt;", "<!--", "]]>",
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_end|>", "<|im_start|>", "<|python_tag|>",
    "[TOOL_CALLS]",
    "<system-reminder>", "</system-reminder>", "x-anthropic-billing-header: cch=1;", "```json", "```", "functions.f:0",
    '{"name": "f", "arguments": ', '{"name": "f", "parameters": ', "<function=f>", "<parameter=a>", "f(a=",
)  # fmt: skip


def pieces(rng: Random, most: int = 12) -> list[str]:
    """Up to so many pieces; once in a thousand times one of them is there many times over."""
    drawn = [rng.choice(_PIECES) for _ in range(rng.randrange(most))]
    if drawn and rng.random() < 0.001:
        at = rng.randrange(len(drawn))
        drawn[at:at] = [drawn[at]] * min(rng.choice((100, 1000, 5000)), 20_000 // len(drawn[at]))
    return drawn


def text(rng: Random, most: int = 12) -> str:
    """A text of up to so many pieces."""
    return "".join(pieces(rng, most))


def arguments(rng: Random) -> list[str]:
    """Pieces of what may stand where a call's arguments should: an object, or something like one."""
    kind = rng.random()
    if kind < 0.3:
        return pieces(rng)
    whole = ["{"]
    for k in range(rng.randrange(4)):
        whole += [", "] * bool(k) + [rng.choice(_KEYS), ": ", rng.choice(_PIECES)]
    whole.append("}")
    if kind < 0.7:
        return whole
    at, to = rng.randrange(len(whole) + 1), rng.randrange(len(whole) + 1)
    return whole[:at] + pieces(rng, 3) + whole[to:]


_KEYS = ('"a"', "'a'", "a", '"city"', "1", "None", '["a"]', '{"a": 1}', '""', '"a" "b"', "*x")

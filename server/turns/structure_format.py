"""Shapes as xgrammar's structural tags, the language in which vLLM and SGLang are given what a completion looks like.

Source: ``xgrammar/structural_tag.py`` of xgrammar 0.2.8 (0.2.7 has the same of what is used here). A grammar of text
lets a model spell a control token in ordinary ones; what reads the answer goes by token ids, so control tokens are
named by theirs.
"""

from collections.abc import Sequence
from typing import Any

from tickertape.renderers.shape import AtMostOne, Either, Json, Matching, Perhaps, Repeated, Shape, Text
from tickertape.renderers.tokenizer import Tokenizer

Format = dict[str, Any]


def structural_tag(shape: Shape, tokenizer: Tokenizer) -> Format:
    """``{"type": "structural_tag", "format": …}`` for a complete completion, but for its stop token."""
    return {"type": "structural_tag", "format": _sequence(shape, tokenizer)}


def _sequence(shape: Shape, tokenizer: Tokenizer) -> Format:
    elements: list[Format] = []
    for part in shape:
        if isinstance(part, str):
            elements += _literal(part, tokenizer)
        else:
            # Sequences stay nested: xgrammar 0.2.8 keeps masks by the shape of a rule, and of flat ones that differ in
            # their tokens alone it takes one's mask for the other's.
            elements.append(_format(part, tokenizer))
    return elements[0] if len(elements) == 1 else {"type": "sequence", "elements": elements}


def _literal(text: str, tokenizer: Tokenizer) -> list[Format]:
    return [
        {"type": "token", "token": tokenizer.control[part]}
        if part in tokenizer.control
        else {"type": "const_string", "value": part}
        for part in tokenizer.split_control(text)
    ]


def _format(part: Json | Text | Matching | Perhaps | Either | Repeated | AtMostOne, tokenizer: Tokenizer) -> Format:
    match part:
        case Json(schema):
            return {"type": "json_schema", "json_schema": dict(schema)}
        case Matching(pattern):
            return {"type": "regex", "pattern": pattern}
        case Perhaps(shape):
            return {"type": "optional", "content": _sequence(shape, tokenizer)}
        case Repeated(shape):
            return {"type": "star", "content": _sequence(shape, tokenizer)}
        case Either(ways):
            return _either(ways, tokenizer)
        case Text(end, without):
            return _text(end, without, tokenizer)
        case AtMostOne(tag, ways, without):
            behind = [(str(way[0])[len(tag) :], *way[1:]) for way in ways]
            rules = [[tag, _either(behind, tokenizer)]]
            return {"type": "dispatch", "rules": rules, "loop": False, "excludes": list(without)}


def _either(ways: Sequence[Shape], tokenizer: Tokenizer) -> Format:
    formats = [_sequence(way, tokenizer) for way in ways]
    return formats[0] if len(formats) == 1 else {"type": "or", "elements": formats}


def _text(end: str, without: Sequence[str], tokenizer: Tokenizer) -> Format:
    """Text up to ``end``, which is recognised as a reader does: by its token if it has one, else by its letters."""
    if not end:
        return {"type": "any_text", "excludes": list(without)}
    tokens = [part for part in tokenizer.split_control(end) if part in tokenizer.control]
    if not tokens:
        content: Format = {"type": "any_text", "excludes": list(without)}
        return {"type": "tag", "begin": "", "content": content, "end": end}
    excluded = [tokenizer.control[tag] for tag in [*tokens, *without] if tag in tokenizer.control]
    elements = [{"type": "any_tokens", "exclude_tokens": excluded}, *_literal(end, tokenizer)]
    return {"type": "sequence", "elements": elements}

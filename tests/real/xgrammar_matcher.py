"""Runs in an engine's own environment, which has xgrammar: which token ids does a structural tag accept?

One JSON object a line comes in, ``{"vocabulary": FILE, "stop_ids": […], "structure": …, "token_ids": […]}``, where FILE
holds the bytes of each token as Latin-1 text; one goes out: ``{"accepted": so many}``, all of them if that many, or
``{"error": …}`` if the structure cannot be compiled.
"""

import functools
import json
import sys

import xgrammar


@functools.cache
def compiler(vocabulary, stop_ids):
    with open(vocabulary) as file:
        tokens = [text.encode("latin-1") for text in json.load(file)]
    info = xgrammar.TokenizerInfo(tokens, xgrammar.VocabType.RAW, stop_token_ids=list(stop_ids))
    return xgrammar.GrammarCompiler(info, max_threads=1)


def accepted(asked):
    made = compiler(asked["vocabulary"], tuple(asked["stop_ids"]))
    grammar = made.compile_structural_tag(json.dumps(asked["structure"]))
    matcher = xgrammar.GrammarMatcher(grammar)
    for place, token in enumerate(asked["token_ids"]):
        if not matcher.accept_token(token):
            return place
    return len(asked["token_ids"])


for line in sys.stdin:
    try:
        answer = {"accepted": accepted(json.loads(line))}
    except (RuntimeError, ValueError) as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)

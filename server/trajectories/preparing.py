"""From a request's messages to the exact tokens that its turn starts with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tickertape.renderers.errors import BridgeRefused
from tickertape.renderers.format import History
from tickertape.renderers.pieces import Kind
from tickertape.renderers.prompt import Prompt
from tickertape.renderers.renderer import Renderer
from tickertape.server.trajectories import forks
from tickertape.server.trajectories.forks import Asked, fork_reason
from tickertape.server.trajectories.matching import matches
from tickertape.server.trajectories.tree import Node, SessionTree
from tickertape.server.trajectories.turn import Spans, TokenIds, no_tokens

#: So many tokens of a prompt show how it ends; a bridge needs no more of it.
_PROMPT_END = 256
#: Bridges that are tried for one request: a template that refuses one turn mostly refuses those before it too.
_MOST_BRIDGES = 4


class NothingToContinue(ValueError):
    """The last message is no answer of this session that was cut."""


@dataclass(frozen=True, slots=True)
class Rules:
    """By which a prompt is rendered, and what a turn must have in common with it to be extended."""

    tools: Sequence[Mapping[str, Any]] | None
    tools_digest: str
    options_digest: str
    history: History


@dataclass(frozen=True, slots=True)
class Prepared:
    """A turn's prompt, and where it hangs in the tree."""

    parent: Node | None
    prompt_ids: TokenIds
    """The complete prompt: the parent's stream, then ``prompt_delta``."""
    prompt_delta: TokenIds
    prompt_spans: Spans
    """Runs over ``prompt_delta``; message indices count the request's messages."""
    covered: int
    """Number of the request's messages that the parent's stream covers."""
    fork_reason: str | None
    answered: TokenIds
    """The tokens that were sampled of this answer before it was cut; empty unless the turn continues one."""
    opening: TokenIds
    """The tokens that were added before the answer's first token."""


def prepare(tree: SessionTree, renderer: Renderer, asked: Asked, rules: Rules) -> Prepared:
    """Bridges the new messages onto the deepest turn that the request continues; else renders everything and hangs it
    below the deepest turn whose tokens it repeats; else starts a new root.

    Raises:
        RenderError: the model's format cannot express the messages.
    """
    refused: str | None = None
    deepest: Node | None = None
    bridges_left = _MOST_BRIDGES
    for node, covered in matches(tree, asked.digests):
        deepest = deepest or node
        if node.tools_digest != rules.tools_digest:
            refused = refused or forks.TOOLS_CHANGED
        elif node.options_digest != rules.options_digest:
            refused = refused or forks.TEMPLATE_OPTIONS_CHANGED
        elif rules.history is not History.EXACT:
            refused = refused or forks.HISTORY_TEMPLATE
        else:
            try:
                suffix = _bridge(renderer, node, asked, covered, rules)
            except BridgeRefused as refusal:
                refused = refused or f"{forks.NO_BRIDGE}{refusal}"
                bridges_left -= 1
                if not bridges_left:
                    break
            else:
                delta = np.array(suffix.token_ids, np.int32)
                spans: Spans = [(m + covered if m >= 0 else m, int(kind), n) for m, kind, n in suffix.spans]
                prompt_ids = np.concatenate([node.stream(), delta])
                reason = refused or fork_reason(tree, asked, node, covered)
                return Prepared(node, prompt_ids, delta, spans, covered, reason, no_tokens(), delta)
    prepared = _render_anew(tree, renderer, asked, rules)
    if refused is None or (prepared.parent is not None and prepared.parent is deepest):
        return prepared
    return replace(prepared, fork_reason=refused)


def prepare_continuation(tree: SessionTree, renderer: Renderer, asked: Asked, rules: Rules) -> Prepared:
    """A prompt that ends where an answer was cut, so that the model continues it: exactly the stream of its turn.

    Raises:
        NothingToContinue: the last message is no such answer.
    """
    for node in reversed(tree.ending_with(asked.digests[-1])):
        same_rules = (node.tools_digest, node.options_digest) == (rules.tools_digest, rules.options_digest)
        if same_rules and not {*node.completion[-1:].tolist()} & {*renderer.get_stop_sequences()}:
            covered = len(asked.messages)
            reason = fork_reason(tree, asked, node, covered)
            answer = node.answer()
            opening = answer.first.prompt_delta
            return Prepared(node, node.stream(), no_tokens(), [], covered, reason, answer.completion, opening)
    raise NothingToContinue(
        "the last message, which is to be gone on with, is no answer of this session that was cut: send one that ended "
        "at its token limit as it came, with the tools and template options that it was given for"
    )


def prepare_tokens(tree: SessionTree, asked: Asked, prompt_ids: TokenIds) -> Prepared:
    """A prompt that the client has made: below the deepest turn whose tokens it repeats."""
    prompt = Prompt(prompt_ids.tolist(), [(-1, Kind.CONTENT, len(prompt_ids))])
    return _below_its_prefix(tree, asked, prompt)


def _bridge(renderer: Renderer, node: Node, asked: Asked, covered: int, rules: Rules) -> Prompt:
    answer = node.answer()
    return renderer.bridge_suffix(
        answer.completion.tolist(),
        asked.messages[covered:],
        rules.tools,
        prompt_ids=answer.first.prompt_end(_PROMPT_END),
        # The client's own ids: it may have made them anew, and results name them.
        call_ids=[call.id for call in asked.messages[covered - 1].tool_calls],
    )


def _render_anew(tree: SessionTree, renderer: Renderer, asked: Asked, rules: Rules) -> Prepared:
    return _below_its_prefix(tree, asked, renderer.build_generation_prompt(asked.messages, rules.tools))


def _below_its_prefix(tree: SessionTree, asked: Asked, prompt: Prompt) -> Prepared:
    ids = np.array(prompt.token_ids, np.int32)
    parent = tree.deepest_prefix(ids)
    start = parent.length if parent else 0
    rest = prompt.behind(start)
    covered = min((m for m, _, _ in rest.spans if m >= 0), default=len(asked.messages)) if parent else 0
    reason = fork_reason(tree, asked, parent, covered)
    spans: Spans = [(m, int(kind), n) for m, kind, n in rest.spans]
    # A copy: a view would keep the parent's part of the prompt in memory for as long as the session lives.
    delta = ids[start:].copy()
    return Prepared(parent, ids, delta, spans, covered, reason, no_tokens(), delta)

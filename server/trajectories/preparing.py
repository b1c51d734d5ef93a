"""From a request's messages to the exact tokens that its turn starts with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tickertape.renderers.errors import BridgeRefused
from tickertape.renderers.format import History
from tickertape.renderers.messages import Message
from tickertape.renderers.prompt import Prompt
from tickertape.renderers.renderer import Renderer
from tickertape.server.trajectories.matching import matches
from tickertape.server.trajectories.tree import Node, SessionTree
from tickertape.server.trajectories.turn import Spans, TokenIds

#: So many tokens of a prompt show how it ends; a bridge needs no more of it.
_PROMPT_END = 256


@dataclass(frozen=True, slots=True)
class Prepared:
    """A turn's prompt, and where it hangs in the tree."""

    parent: Node | None
    prompt_ids: TokenIds
    """The whole prompt: the parent's stream, then ``prompt_delta``."""
    prompt_delta: TokenIds
    prompt_spans: Spans
    """Runs over ``prompt_delta``; message indices count the request's messages."""
    covered: int
    """How many of the request's messages the parent's stream covers."""
    fork_reason: str | None


def prepare(
    tree: SessionTree,
    renderer: Renderer,
    messages: Sequence[Message],
    digests: Sequence[bytes],
    *,
    tools: Sequence[Mapping[str, Any]] | None,
    tools_digest: str,
    options_digest: str,
    history: History,
) -> Prepared:
    """Bridges the new messages onto the deepest turn that the request continues; else renders everything and hangs it
    below the deepest turn whose tokens it repeats; else starts a new root.

    Raises:
        RenderError: the model's format cannot express the messages.
    """
    reason: str | None = None
    for node, covered in matches(tree, digests) if history is History.EXACT else ():
        if node.tools_digest != tools_digest:
            reason = reason or "tools_changed"
        elif node.options_digest != options_digest:
            reason = reason or "template_options_changed"
        else:
            try:
                suffix = renderer.bridge_suffix(
                    node.completion.tolist(), messages[covered:], tools, prompt_ids=node.prompt_end(_PROMPT_END)
                )
            except BridgeRefused as refusal:
                reason = reason or f"no_bridge: {refusal}"
            else:
                return _extend(node, suffix, covered, reason or ("sibling" if node.children else None))
    return _render_anew(tree, renderer, messages, tools, reason)


def _extend(node: Node, suffix: Prompt, covered: int, fork_reason: str | None) -> Prepared:
    delta = np.array(suffix.token_ids, np.int32)
    spans: Spans = [(m + covered if m >= 0 else m, int(kind), n) for m, kind, n in suffix.spans]
    return Prepared(node, np.concatenate([node.stream(), delta]), delta, spans, covered, fork_reason)


def _render_anew(
    tree: SessionTree,
    renderer: Renderer,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None,
    reason: str | None,
) -> Prepared:
    prompt = renderer.build_generation_prompt(messages, tools)
    ids = np.array(prompt.token_ids, np.int32)
    parent = tree.deepest_prefix(ids)
    start = parent.length if parent else 0
    rest = prompt.behind(start)
    covered = min((m for m, _, _ in rest.spans if m >= 0), default=len(messages))
    if parent is None and tree.roots:
        reason = reason or "history_differs"
    elif parent is not None and parent.children:
        reason = reason or "sibling"
    spans: Spans = [(m, int(kind), n) for m, kind, n in rest.spans]
    return Prepared(parent, ids, ids[start:], spans, covered if parent else 0, reason)

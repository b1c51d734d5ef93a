"""What is sent: primed sessions of an agent, their next turns, and the token prompts that an engine gets for them."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import orjson

from benchmarks.load import Caller, Request, get, post
from benchmarks.null_engine import COMPLETION_TOKENS, MODEL
from benchmarks.vocabulary import Vocabulary

Message = dict[str, Any]

QUESTION = "Question %08d: what does this output tell you, and which file will you open next?"


class Context:
    """A conversation of `n_tokens` tokens before the turn that is measured."""

    def __init__(self, vocabulary: Vocabulary, n_tokens: int) -> None:
        self.n_tokens = n_tokens
        self._text, ids = vocabulary.text(n_tokens)
        _, following = vocabulary.text(COMPLETION_TOKENS + len(QUESTION) // 4)
        self._ids = ids + following

    def opening(self, session: str) -> Message:
        """The long first message; no two sessions have the same, so that nothing can be shared between them."""
        return {"role": "user", "content": f"{session}\n{self._text}"}

    def second_turn(self, *, stream: bool) -> bytes:
        """An agent's request for the turn, for a proxy that only forwards it."""
        messages = [
            self.opening("session-0"),
            {"role": "assistant", "content": " ab" * COMPLETION_TOKENS},
            {"role": "user", "content": QUESTION % 1},
        ]
        asked = {"model": MODEL, "messages": messages, "max_tokens": COMPLETION_TOKENS}
        return orjson.dumps({**asked, "stream": True} if stream else asked)

    def engine_body(self) -> bytes:
        """What an engine is asked for a bridged turn: the context, the former completion and the question, as ids."""
        return orjson.dumps(
            {
                "model": MODEL,
                "prompt": self._ids,
                "max_tokens": COMPLETION_TOKENS,
                "temperature": 1.0,
                "top_p": 1.0,
                "top_k": -1,
                "skip_special_tokens": False,
                "spaces_between_special_tokens": False,
                "logprobs": 0,
                "return_token_ids": True,
                "return_tokens_as_token_ids": True,
            }
        )


class Session:
    """A primed session. Its next turns are siblings: all continue the last answer, each with a question of its own.

    Args:
        agent: primes it.
        context: what it begins with.
        name: its id.
        stream: the turns' answers are sent as they are sampled.
        depth: turns that it has before those.
    """

    def __init__(self, agent: "Agent", context: Context, name: str, *, stream: bool = False, depth: int = 1) -> None:
        self.name = name
        self.depth = depth
        self._path = f"/sessions/{name}/v1/chat/completions"
        ask = {"role": "user", "content": QUESTION}
        history = [context.opening(name)]
        for turn in range(depth):
            if turn:
                history.append({"role": "user", "content": QUESTION % turn})
            history.append(agent.ask(self._path, history))
        self._before, self._after = agent.body([*history, ask], stream=stream).split(b"%08d")

    def turn(self, number: int) -> Request:
        return post(self._path, self._before, b"%08d" % number, self._after)


class Agent:
    """Speaks OpenAI chat to a proxy, one call at a time: what primes sessions, outside of any measurement."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._model: str = self._get("/v1/models")["data"][0]["id"]

    def body(self, messages: Sequence[Message], *, stream: bool = False) -> bytes:
        asked = {"model": self._model, "messages": messages, "max_tokens": COMPLETION_TOKENS}
        return orjson.dumps({**asked, "stream": True} if stream else asked)

    def ask(self, path: str, messages: Sequence[Message]) -> Message:
        """The assistant's message, as an agent repeats it: without the fields that are null."""
        answer = orjson.loads(self.call(post(path, self.body(messages))))
        return {key: value for key, value in answer["choices"][0]["message"].items() if value is not None}

    def bridged(self, session: Session) -> bool:
        """True if every measured turn was bridged onto the last of the primed ones, as the proxy's own record says."""
        record = self._get(f"/sessions/{session.name}/turns?limit=1000")["turns"]
        primed, measured = record[: session.depth], record[session.depth :]
        return bool(measured) and all(turn["parent_id"] == primed[-1]["id"] for turn in measured)

    def _get(self, path: str) -> Any:
        return orjson.loads(self.call(get(path)))

    def call(self, request: Request) -> bytes:
        with closing(Caller(self._port)) as caller:  # a connection each: between calls, measurements outlast keep-alive
            return caller.call(request)


def turns(sessions: Sequence[Session]) -> Iterator[Request]:
    """Turns without end, from each session in its order, no two alike."""
    return (session.turn(number) for number, session in enumerate(itertools.cycle(sessions)))

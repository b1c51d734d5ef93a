"""Agents that go on whatever happens to their server: each holds conversations, one after another, with tools, forks
and parallel calls, and sends a request again, byte for byte, until it has heard the answer to it."""

import asyncio
import json
import random
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from tests.durability.protocols import DIALECTS, Dialect, Item, Said, events_of

#: What a client tries again after, as OpenAI's and Anthropic's SDKs do; anything else that is no answer is a finding.
AGAIN = (408, 409, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Heard:
    """A request and the answer that its agent heard whole."""

    session_id: str
    mark: str
    dialect: str
    said: Said
    streamed: bool
    replayed: bool
    """Whether the server said that it was sampled for an earlier try."""
    tries: int


@dataclass
class Ledger:
    """What all agents sent and heard."""

    heard: list[Heard] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Something was heard."""
    broken: Counter[str] = field(default_factory=Counter)
    """Tries without an answer, by why."""
    findings: list[str] = field(default_factory=list)
    """What no kill explains."""


@dataclass
class Agent:
    """Holds conversations until it is told to stop; then it ends the request that it has begun.

    Args:
        http: of all agents.
        urls: of the servers of one tape; each try goes to any of them.
        ledger: what it writes to.
        chance: its dice.
        pause: mean seconds between an answer and the next request.
    """

    http: aiohttp.ClientSession
    urls: Sequence[str]
    ledger: Ledger
    chance: random.Random
    pause: float = 0.3
    number: int = 0

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            await self._converse(self.chance.choice(DIALECTS), stopping)

    async def _converse(self, dialect: Dialect, stopping: asyncio.Event) -> None:
        session_id = uuid.uuid4().hex
        histories: list[list[Item]] = [[]]  # without the question that comes next
        for _ in range(self.chance.randint(2, 14)):
            if stopping.is_set():
                return
            # Usually the newest; else a fork.
            history = histories[-1] if self.chance.random() < 0.85 else self.chance.choice(histories)
            party = self.chance.choice((1, 1, 1, 1, 1, 1, 2, 3))
            asked = [[*history, dialect.user(self._word())] for _ in range(party)]
            answers = await asyncio.gather(*(self._ask(session_id, dialect, each) for each in asked))
            histories += [self._next(dialect, *each) for each in zip(asked, answers, strict=True)]
            await asyncio.sleep(self.chance.uniform(0, 2 * self.pause))

    def _next(self, dialect: Dialect, asked: list[Item], said: Said) -> list[Item]:
        results = [dialect.result(call_id, self._word()) for call_id in said.call_ids]
        return [*asked, *said.items, *results]

    def _word(self) -> str:
        self.number += 1
        return f"this is number {self.number} of {self.chance.random()}"

    async def _ask(self, session_id: str, dialect: Dialect, history: list[Item]) -> Said:
        mark, streamed = uuid.uuid4().hex, self.chance.random() < 0.5
        body = {"model": "faulty", **dialect.body(history, mark), "stream": streamed}
        content, tries = json.dumps(body).encode(), 0
        while True:
            tries += 1
            url = f"{self.chance.choice(self.urls)}/sessions/{session_id}/v1/{dialect.path}"
            try:
                answer, replayed = await self._try(url, content, dialect, streamed)
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                answer, replayed = type(error).__name__, False
            if isinstance(answer, Said):
                heard = Heard(session_id, mark, dialect.name, answer, streamed, replayed, tries)
                self.ledger.heard.append(heard)
                self.ledger.news.set()
                return answer
            self.ledger.broken[answer] += 1
            await asyncio.sleep(self.chance.uniform(0.375, 0.5))  # an SDK's first wait

    async def _try(self, url: str, content: bytes, dialect: Dialect, streamed: bool) -> tuple[Said | str, bool]:
        """The answer, or why there is none."""
        headers = {"Content-Type": "application/json"}
        async with self.http.post(url, data=content, headers=headers) as response:
            got = await response.read()
            if response.status != 200:
                if response.status not in AGAIN:
                    self.ledger.findings.append(f"{response.status} {got!r:.300} to {content!r:.2000}")
                return f"status {response.status}", False
            replayed = "X-Tickertape-Replayed" in response.headers
        whole = dialect.gathered(events_of(got)) if streamed else json.loads(got)
        return ("a stream that ends early" if whole is None else dialect.read(whole)), replayed

"""Sampling one turn: its prompt goes to an engine, what comes back is read, shown to who reads along, and kept."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tickertape.clients.engines.engine import Chunk, Sampling
from tickertape.clients.engines.pool import EngineRequest, Member
from tickertape.renderers.renderer import Renderer
from tickertape.server.observing.traced import engine_span
from tickertape.server.policy.gate import BrokenOff
from tickertape.server.trajectories import forks
from tickertape.server.trajectories.forks import Asked
from tickertape.server.trajectories.matching import context_digests, token_digest
from tickertape.server.trajectories.normalising import MatchPolicy
from tickertape.server.trajectories.preparing import Prepared
from tickertape.server.trajectories.turn import Turn
from tickertape.server.turns.completion import Completion
from tickertape.server.turns.generator import Generator
from tickertape.server.turns.limits import TurnLimits
from tickertape.server.turns.reading import AnswerReader, Read, as_recorded
from tickertape.server.turns.request import TurnRequest, TurnResult
from tickertape.server.turns.stream_buffer import StreamBuffer

#: Sampled tokens that are read without a pause: about 20 ms of the slowest formats.
_READ_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Task:
    """The things that the turns of one request have in common."""

    request: TurnRequest
    asked: Asked
    renderer: Renderer
    prepared: Prepared
    buffer: StreamBuffer | None

    @property
    def reads_along(self) -> bool:
        """Returns True if the answer is read while it is sampled; else it is read afterwards, which takes less time."""
        return self.buffer is not None or self.request.thought_tokens is not None


class Sampler:
    """Samples turns.

    Args:
        generator: gets completions.
        matching: what of a message counts when histories are compared.
        limits: how long a turn may take, and how many tokens come at a time.
    """

    def __init__(self, generator: Generator, matching: MatchPolicy, limits: TurnLimits) -> None:
        self._generator = generator
        self._matching = matching
        self._limits = limits

    async def sample(self, choice: int, turn: Turn, sampling: Sampling, task: Task) -> TurnResult:
        """Fills in ``turn`` up to its outcome. What it raises midway is on ``turn`` as far as it got."""
        prepared = task.prepared
        completion = Completion(len(prepared.prompt_ids))
        reader = AnswerReader(
            turn, task.renderer, task.request, answered=prepared.answered, prompt_end=prepared.opening.tolist()
        )
        with engine_span(turn, sampling.adapter or self._generator.pool.info.model):
            await self._generate(choice, turn, sampling, task, completion, reader)
        began = time.perf_counter()
        if not task.reads_along:
            await _read(reader, completion.token_ids)
        deltas, read = reader.finish()
        if task.buffer is not None:
            task.buffer.put(choice, deltas)
        self._digest(turn, read, task.asked)
        turn.response = as_recorded(read.told)
        turn.timings["parse"] = time.perf_counter() - began
        return TurnResult(
            turn=turn,
            message=read.told,
            parts=read.parts,
            prompt_ids=prepared.prompt_ids,
            reasoning_tokens=reader.reasoning_tokens,
            top_logprobs=completion.tops if sampling.top_logprobs else None,
        )

    async def _generate(
        self, choice: int, turn: Turn, sampling: Sampling, task: Task, completion: Completion, reader: AnswerReader
    ) -> None:
        started = time.perf_counter()
        timings, buffer, reads_along = turn.timings, task.buffer, task.reads_along

        def on_engine(member: Member) -> None:
            timings.setdefault("queue", time.perf_counter() - started)
            _enter_engine(turn, member, resumed=bool(completion.token_ids))

        def on_chunk(chunk: Chunk) -> bool:
            if "first_token" not in timings:
                timings["first_token"] = time.perf_counter() - started
            if not reads_along:
                return True
            deltas = reader.feed(chunk.token_ids)
            if buffer is not None:
                buffer.put(choice, deltas, chunk)
            if reader.has_thought_enough and completion.finish_reason is None:
                completion.finish_reason = "length"
                return False
            return True

        request = EngineRequest(
            prompt_ids=task.prepared.prompt_ids,
            sampling=sampling,
            request_id=turn.id,
            session_id=turn.session_id,
            min_version=task.request.min_version,
            chunk_tokens=self._limits.stream_chunk_tokens if reads_along else self._limits.chunk_tokens,
            on_engine=on_engine,
        )
        try:
            async with self._deadline():
                await self._generator.generate(request, completion, on_chunk)
        finally:
            completion.record_on(turn)
            timings["engine"] = time.perf_counter() - started
            turn.usage = _usage(len(request.prompt_ids), completion)

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        seconds = self._limits.seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise BrokenOff(f"the turn took longer than {seconds:g} s", code="deadline", status=504) from error

    def _digest(self, turn: Turn, read: Read, asked: Asked) -> None:
        """Enters by what later requests will know the turn again."""
        if asked.prompt_ids is not None:
            turn.context_digest = token_digest(asked.prompt_ids, turn.completion)
            return
        index = turn.answer_index
        before = asked.digests[index - 1] if index else b""
        turn.context_digest = context_digests([read.repeated], self._matching, after=before, first=index)[-1]
        turn.digests["answer"] = forks.answer_digest(read.repeated, self._matching, index)
        turn.digests["told"] = forks.told_digest(read.repeated)
        turn.digests["line"] = forks.longest_line_digest(read.repeated.text)


def _enter_engine(turn: Turn, member: Member, *, resumed: bool) -> None:
    """Notes where a turn is sampled; one that was resumed elsewhere has several places, in order."""
    assert member.info is not None  # noqa: S101  (it is ready)
    place = f"{member.kind} {member.url}"
    if not turn.engine.endswith(place):
        turn.engine = f"{turn.engine}, {place}" if resumed else place
    turn.logprob_kind = member.info.logprobs.value


async def _read(reader: AnswerReader, token_ids: list[int]) -> None:
    """Reads a complete answer; a long one in parts, between which other calls have their turn."""
    for start in range(0, len(token_ids), _READ_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        reader.feed(token_ids[start : start + _READ_AT_ONCE])


def _usage(prompt_tokens: int, completion: Completion) -> dict[str, int]:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": len(completion.token_ids)}
    if completion.cached_tokens is not None:
        usage["cached_tokens"] = completion.cached_tokens
    return usage

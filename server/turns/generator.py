"""One completion from the engines, through pauses: to those who read it, it is one.

A generation that is broken off, by a pause here or at the engine itself, goes on from exactly the tokens that it has,
with the rest of its budget. What must not be noticed at the seam is looked after here: stop strings that lie across it,
seeds, versions.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from tickertape.clients.engines.engine import Chunk, Sampling, TokenIds
from tickertape.clients.engines.errors import EngineAborted, EngineNonsense
from tickertape.clients.engines.pool import EnginePool, Member
from tickertape.clients.engines.stopping import StopWatch, cut
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.policy.gate import PolicyGate, PolicyRun
from tickertape.server.turns.completion import Generation, can_go_on, rest_of

#: How often in a row an engine may break off a generation on somebody else's order without having sampled a token.
_MOST_ABORTS = 3
#: Ids beyond the tokenizer's that an engine may give: embeddings are padded, gpt-oss's by 1,069 rows.
_PADDING = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A completion that is asked for."""

    prompt_ids: TokenIds
    sampling: Sampling
    session_id: str
    turn_id: str
    min_version: str | None = None
    """The oldest policy version that may sample it."""


class Generating:
    """Gets completions.

    Args:
        pool: the engines.
        policy: the gate that every request passes.
        tokenizer: the model's, for the bytes of stop strings and to know what can be a token.
    """

    def __init__(self, pool: EnginePool, policy: PolicyGate, tokenizer: Tokenizer) -> None:
        self.pool = pool
        self.policy = policy
        self._token_bytes = tokenizer.token_bytes
        self._n_ids = tokenizer.vocab_size + _PADDING

    async def generate(
        self, wanted: Wanted, generation: Generation, on_engine: Callable[[Member], None]
    ) -> AsyncGenerator[Chunk, None]:
        """Samples; each chunk is in ``generation`` when it is handed out.

        Args:
            wanted: what is asked for.
            generation: gets the tokens.
            on_engine: gets each engine that the request is sent to.

        Raises:
            EngineError: see there; what was sampled before is in ``generation``.
            BrokenOff: the generation was ended here.
        """
        sampling = wanted.sampling
        with self.policy.run(wanted.session_id, wanted.turn_id, can_go_on=can_go_on(sampling)) as run:

            def engine_found(member: Member) -> None:
                run.member = member.name
                on_engine(member)

            requests = aborts = 0
            while generation.finish_reason is None:
                n_before = len(generation.token_ids)
                try:
                    await self.policy.may_sample(run)
                    request_id = f"{wanted.turn_id}-{requests}" if requests else wanted.turn_id
                    requests += 1
                    generation.begin_request()
                    async with aclosing(self._ask(wanted, generation, request_id, engine_found)) as chunks:
                        async for chunk in chunks:
                            self._check(chunk, sampling.max_tokens - len(generation.token_ids))
                            generation.take(chunk, self.policy.version)
                            yield chunk
                except asyncio.CancelledError:
                    if not run.absorb():
                        raise
                    continue
                if generation.finish_reason is None:
                    aborts = aborts + 1 if len(generation.token_ids) == n_before else 0
                    self._refuse_to_go_on(run, aborts)

    async def _ask(
        self, wanted: Wanted, generation: Generation, request_id: str, on_engine: Callable[[Member], None]
    ) -> AsyncGenerator[Chunk, None]:
        """One request to an engine, for all that is left. It ends without a finish reason where the engine aborted."""
        sampling, seen = wanted.sampling, generation.token_ids
        watch = StopWatch(sampling.stop, ())
        if seen and (ended := self._ended(sampling, seen, watch)):
            yield ended
            return
        crosses = bool(seen) and bool(sampling.stop)
        stream = np.concatenate([wanted.prompt_ids, np.array(seen, np.int32)]) if seen else wanted.prompt_ids
        chunks = self.pool.generate(
            stream,
            rest_of(sampling, len(seen)),
            request_id=request_id,
            affinity=wanted.session_id,
            min_version=wanted.min_version,
            goes_on=bool(seen),
            on_engine=on_engine,
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                if chunk.finish_reason == "abort":
                    yield replace(chunk, finish_reason=None)
                    return
                if crosses and (stopped := watch.first(chunk.token_ids, self._token_bytes)) is not None:
                    yield cut(chunk, *stopped)
                    return
                yield chunk

    def _check(self, chunk: Chunk, left: int) -> None:
        """
        Raises:
            EngineNonsense: these cannot have been sampled. None of them is taken.
        """
        token_ids = chunk.token_ids
        if len(token_ids) > left:
            raise EngineNonsense(f"the engine gave {len(token_ids)} tokens where {left} were left to sample")
        if token_ids and not 0 <= min(token_ids) <= max(token_ids) < self._n_ids:
            raise EngineNonsense(f"the engine gave token ids that this model has not: {token_ids!r:.100}")

    def _ended(self, sampling: Sampling, seen: list[int], watch: StopWatch) -> Chunk | None:
        """The end, where a generation was broken off just when it had come to it."""
        stopped = watch.first(seen[-watch.reach :], self._token_bytes) if sampling.stop else None
        if stopped is None and seen[-1] in sampling.stop_token_ids and not sampling.ignore_eos:
            stopped = (0, seen[-1])
        if stopped is not None and len(seen) >= sampling.min_tokens:
            return Chunk([], [], finish_reason="stop", stop_reason=stopped[1])
        return Chunk([], [], finish_reason="length") if len(seen) >= sampling.max_tokens else None

    def _refuse_to_go_on(self, run: PolicyRun, aborts: int) -> None:
        if not run.can_go_on:
            raise EngineAborted(
                "the engine aborted the generation, which cannot be gone on with: a grammar or a penalty would begin "
                "anew; what it sampled is on tape"
            )
        if aborts >= _MOST_ABORTS and self.policy.paused is None:
            raise EngineAborted(f"the engine aborted the generation {aborts} times without a token")

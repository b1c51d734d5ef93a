"""One completion from the engines, through pauses: to those who read it, it is one.

A generation that is broken off, by a pause here or at the engine itself, is resumed from exactly the tokens that it
has, with the rest of its budget. What must not be noticed at the seam is looked after here: stop strings that lie
across it, seeds, versions.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tickertape.clients.engines.engine import Chunk, Feature, Sampling
from tickertape.clients.engines.errors import EngineAborted, EngineNonsense
from tickertape.clients.engines.pool import EnginePool, EngineRequest, Member
from tickertape.clients.engines.stopping import StopWatch, cut
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.policy.gate import PolicyGate, PolicyRun
from tickertape.server.turns.completion import Completion, can_resume, rest_of

#: How often in a row an engine may break off a generation on an order that was not ours without having sampled a token.
_MOST_ABORTS = 3
#: Ids beyond the tokenizer's that an engine may give: embeddings are padded, gpt-oss's by 1,069 rows.
_PADDING = 4096


class Generator:
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

    async def generate(self, request: EngineRequest, completion: Completion, on_chunk: Callable[[Chunk], bool]) -> None:
        """Samples a completion.

        Args:
            request: what is asked for, for a completion without interruption.
            completion: gets the tokens.
            on_chunk: called with each chunk that was added to ``completion``; false ends the generation.

        Raises:
            EngineError: see there; what was sampled before is in ``completion``.
            BrokenOff: the generation was ended here.
        """
        sampling = request.sampling
        with self.policy.run(request.session_id, request.request_id, can_resume=can_resume(sampling)) as run:
            requests = aborts = 0
            while completion.finish_reason is None:
                n_before = len(completion.token_ids)
                try:
                    await self.policy.may_sample(run)
                    request_id = f"{request.request_id}-{requests}" if requests else request.request_id
                    requests += 1
                    completion.begin_request()
                    if not await self._ask(request, request_id, completion, run, on_chunk):
                        return
                except asyncio.CancelledError:
                    if not run.absorb():
                        raise
                    continue
                if completion.finish_reason is None:
                    aborts = aborts + 1 if len(completion.token_ids) == n_before else 0
                    self._refuse_to_resume(run, aborts)

    async def _ask(
        self,
        request: EngineRequest,
        request_id: str,
        completion: Completion,
        run: PolicyRun,
        on_chunk: Callable[[Chunk], bool],
    ) -> bool:
        """Makes one request to an engine, for all that is left; returns false if ``on_chunk`` did. Where the engine
        aborted, the completion has no finish reason yet."""
        sampling, seen = request.sampling, completion.token_ids
        watch = StopWatch(sampling.stop, ()) if seen and sampling.stop else None
        if seen and (ended := self._ended(sampling, seen, watch)):
            completion.take(ended, self.policy.version)
            return on_chunk(ended)
        is_wanted = True

        def take(chunk: Chunk) -> bool:
            nonlocal is_wanted
            self._check(chunk, sampling.max_tokens - len(completion.token_ids))
            if chunk.finish_reason == "abort":
                chunk = replace(chunk, finish_reason=None)
            stopped = watch.first(chunk.token_ids, self._token_bytes) if watch else None
            if stopped is not None:
                chunk = cut(chunk, *stopped)
            completion.take(chunk, self.policy.version)
            is_wanted = on_chunk(chunk)
            return is_wanted and stopped is None

        def engine_found(member: Member) -> None:
            assert member.info is not None  # noqa: S101  (it is ready)
            run.member = member.name
            in_chunks = request.chunk_tokens > 1 and Feature.CHUNKS in member.info.features
            run.is_stamped_late = in_chunks and Feature.VERSIONS not in member.info.features
            request.on_engine(member)

        stream = np.concatenate([request.prompt_ids, np.array(seen, np.int32)]) if seen else request.prompt_ids
        asked = EngineRequest(
            prompt_ids=stream,
            sampling=rest_of(sampling, len(seen)),
            request_id=request_id,
            session_id=request.session_id,
            min_version=request.min_version,
            chunk_tokens=request.chunk_tokens,
            resumes=bool(seen),
            on_engine=engine_found,
        )
        await self.pool.generate(asked, take)
        return is_wanted

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

    def _ended(self, sampling: Sampling, seen: list[int], watch: StopWatch | None) -> Chunk | None:
        """The end, where a generation was broken off just when it had come to it."""
        stopped = watch.first(seen[-watch.reach :], self._token_bytes) if watch else None
        if stopped is None and seen[-1] in sampling.stop_token_ids and not sampling.ignore_eos:
            stopped = (0, seen[-1])
        if stopped is not None and len(seen) >= sampling.min_tokens:
            return Chunk([], [], finish_reason="stop", stop_reason=stopped[1])
        return Chunk([], [], finish_reason="length") if len(seen) >= sampling.max_tokens else None

    def _refuse_to_resume(self, run: PolicyRun, aborts: int) -> None:
        if not run.can_resume:
            raise EngineAborted(
                "the engine aborted the generation, which cannot be resumed: a grammar or a penalty would begin anew; "
                "what it sampled is on tape"
            )
        if aborts >= _MOST_ABORTS and self.policy.paused is None:
            raise EngineAborted(f"the engine aborted the generation {aborts} times without a token")

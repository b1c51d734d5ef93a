"""Turns from a tape against an engine that computes them anew.

Three checks. A complete stream is read in one prefill: what the engine echoes is what is on tape (*echo*), and sampled
tokens have the logprobs that were recorded turn by turn, up to a tolerance (*logprob*). A turn that was sampled with
temperature 0 is sampled again from its prompt and gives the same tokens (*greedy*).

Pure over turns and an engine: ``command`` reads tapes and prints.
"""

import asyncio
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tickertape.clients.engines.engine import Engine, EngineInfo, LogprobKind, Scored
from tickertape.clients.engines.errors import EngineCannot, EngineRefused
from tickertape.server.commands.verify.findings import (
    Check,
    Deviation,
    RecordedTurn,
    SessionCheck,
    Tolerances,
    TurnCheck,
)
from tickertape.server.trajectories.options import SampleOptions
from tickertape.server.trajectories.paths import TurnShape, plan
from tickertape.server.trajectories.turn import TokenIds
from tickertape.server.turns.sampling import restored

#: What a sampling parameter is where it changes no logprob. With temperature 0 engines report logprobs at 1.
_NEUTRAL = {"temperature": (0, 1), "top_p": (1,), "top_k": (-1, 0), "min_p": (0,), "presence_penalty": (0,),
            "frequency_penalty": (0,), "repetition_penalty": (1,), "min_tokens": (0,)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verifier:
    """Checks sessions.

    Args:
        engine: started; it must have ``Feature.SCORE``.
        info: what it said of itself.
        rules: what counts as the same.
    """

    engine: Engine
    info: EngineInfo
    rules: Tolerances

    async def session(self, turns: Sequence[RecordedTurn]) -> SessionCheck:
        """Checks each turn of a session once.

        Args:
            turns: all turns of the session in order of ``seq``.

        Raises:
            EngineError: the engine failed, or refused a stream for another reason than its length.
        """
        by_id = {turn.id: turn for turn in turns}
        checks = {t.id: TurnCheck(t.session_id, t.id, t.seq, len(t.completion)) for t in turns if len(t.completion)}
        paths = plan([_shape(turn) for turn in turns], SampleOptions()).paths
        read = await asyncio.gather(
            *(self._path([by_id[shape.id] for shape in path.turns], path.trained, checks) for path in paths)
        )
        for check in checks.values():
            turn = by_id[check.turn_id]
            if turn.sampling.get("temperature") == 0:
                await self._sample_again(_prompt(turn, by_id), turn, check)
        lengths = [length for each in read for length in each]
        return SessionCheck(list(checks.values()), len(lengths), sum(lengths), _sampled_under(turns))

    # Echo and logprobs: one prefill for each leaf.

    async def _path(
        self, path: Sequence[RecordedTurn], own: Sequence[bool], checks: Mapping[str, TurnCheck]
    ) -> list[int]:
        """Checks the turns of a path that are its ``own``; returns the lengths of the streams that were read: one, or
        several where the turns were sampled with different adapters."""
        stream = _stream(path)
        ends = np.cumsum([[len(turn.prompt_delta), len(turn.completion)] for turn in path]).reshape(-1, 2)
        places = {turn.id: slice(*place) for turn, place in zip(path, ends.tolist(), strict=True)}
        by_adapter: dict[str | None, list[RecordedTurn]] = {}
        for turn, is_own in zip(path, own, strict=True):
            if is_own:
                by_adapter.setdefault(turn.sampling.get("adapter"), []).append(turn)
        read: list[int] = []
        for adapter, turns in by_adapter.items():
            scored = await self._score(stream, adapter, turns)
            if isinstance(scored, str):
                for turn in turns:
                    checks[turn.id].not_comparable = scored
                continue
            read.append(len(stream))
            computed = np.array(scored.logprobs)
            differs = _difference(stream.tolist(), scored.token_ids)
            if differs is not None:
                owner = path[min(int((ends[:, 1] <= differs).sum()), len(path) - 1)]
                checks[turns[-1].id].deviations.append(_echo(owner, differs, stream, scored))
            for turn in turns:
                place = places[turn.id]
                if differs is not None and place.stop > differs:
                    checks[turn.id].not_comparable = f"the engine read another stream from position {differs} on"
                else:
                    self._compare(turn, checks[turn.id], place.start, computed[place])
        return read

    async def _score(self, stream: TokenIds, adapter: str | None, turns: Sequence[RecordedTurn]) -> Scored | str:
        """Returns what the engine makes of a stream, or why it is not asked or does not say."""
        version = self.rules.version
        if adapter is not None and adapter not in self.info.adapters:
            return f"the engine has no adapter {adapter!r}"
        if version is not None and not any(_under(turn, version).any() for turn in turns):
            return f"no token of version {version}"
        try:
            return await self.engine.score(stream.tolist(), adapter=adapter)
        except EngineCannot as error:
            return str(error)
        except EngineRefused as error:
            if error.context_exceeded:
                return f"the stream of {len(stream)} tokens is longer than the engine reads"
            raise

    def _compare(self, turn: RecordedTurn, check: TurnCheck, start: int, computed: npt.NDArray[np.float64]) -> None:
        """The logprobs of a turn's completion, which begins at ``start`` of the stream."""
        check.not_comparable = why_not_comparable(turn)
        wanted = np.ones(len(computed), bool) if self.rules.version is None else _under(turn, self.rules.version)
        if check.not_comparable is None and not wanted.any():
            check.not_comparable = f"no token of version {self.rules.version}"
        if check.not_comparable is not None:
            return
        recorded = turn.logprobs.astype(np.float64)
        check.nan = int((wanted & ~np.isfinite(recorded)).sum())
        wanted &= np.isfinite(recorded)
        check.compared = int(wanted.sum())
        if not check.compared:
            check.not_comparable = "the tape has no logprobs"
            return
        # A token that the engine finds impossible is as far off as can be.
        differences = np.where(np.isfinite(computed), np.abs(computed - recorded), math.inf)[wanted]
        check.off = int((differences > self.rules.tolerance).sum())
        check.max_difference, check.mean_difference = float(differences.max()), float(differences.mean())
        if check.off:
            worst = int(np.flatnonzero(wanted)[differences.argmax()])
            token = int(turn.completion[worst])
            logprobs = float(recorded[worst]), float(computed[worst])
            check.deviations.append(
                Deviation(Check.LOGPROB, turn.session_id, turn.id, turn.seq, start + worst, token, token, *logprobs)
            )

    # Greedy sampling, again.

    async def _sample_again(self, prompt: TokenIds, turn: RecordedTurn, check: TurnCheck) -> None:
        if self.rules.version is not None and not _under(turn, self.rules.version).all():
            check.not_sampled_again = f"not all of it was sampled under version {self.rules.version}"
            return
        recorded = turn.completion.tolist()
        asked = restored(turn.sampling)
        asked = replace(
            asked,
            max_tokens=len(recorded),
            min_tokens=min(asked.min_tokens, len(recorded)),
            seed=None,  # nothing is drawn
            top_logprobs=0,
            token_arrays=(),
        )
        token_ids: list[int] = []
        logprobs: list[float] = []
        try:
            async with aclosing(self.engine.generate(prompt, asked, request_id=f"verify-{uuid.uuid4().hex}")) as chunks:
                async for chunk in chunks:
                    token_ids += chunk.token_ids
                    logprobs += chunk.logprobs
        except (EngineCannot, EngineRefused) as error:
            check.not_sampled_again = str(error)
            return
        at = _difference(recorded, token_ids)
        check.greedy = at is None
        if at is not None:
            check.deviations.append(_greedy(turn, at, len(prompt), token_ids, logprobs))


def why_not_comparable(turn: RecordedTurn) -> str | None:
    """Finds why a prefill cannot give a turn's logprobs again; ``None`` if it can.

    Raw ones it can always give; processed ones, and those of a kind that the tape does not tell, only where nothing was
    processed.
    """
    if turn.logprob_kind == LogprobKind.RAW:
        return None
    given = {name: turn.sampling.get(name, values[0]) for name, values in _NEUTRAL.items()}
    changed = [f"{name} {value:g}" for name, value in given.items() if value not in _NEUTRAL[name]]
    changed += [name for name in ("logit_bias", "structure") if turn.sampling.get(name)]
    if not changed:
        return None
    return f"logprobs are {turn.logprob_kind or 'of a kind that the tape does not tell'}, with {', '.join(changed)}"


# Deviations.


def _echo(turn: RecordedTurn, at: int, stream: TokenIds, scored: Scored) -> Deviation:
    return Deviation(
        Check.ECHO,
        turn.session_id,
        turn.id,
        turn.seq,
        position=at,
        token=int(stream[at]) if at < len(stream) else None,
        engine_token=scored.token_ids[at] if at < len(scored.token_ids) else None,
    )


def _greedy(turn: RecordedTurn, at: int, start: int, token_ids: list[int], logprobs: list[float]) -> Deviation:
    on_tape, sampled = at < len(turn.completion), at < len(token_ids)
    return Deviation(
        Check.GREEDY,
        turn.session_id,
        turn.id,
        turn.seq,
        position=start + at,
        token=int(turn.completion[at]) if on_tape else None,
        engine_token=token_ids[at] if sampled else None,
        logprob=float(turn.logprobs[at]) if on_tape else None,
        engine_logprob=logprobs[at] if sampled else None,
    )


# Streams.


def _sampled_under(turns: Iterable[RecordedTurn]) -> dict[str | None, int]:
    """Sampled tokens by policy version."""
    counts: dict[str | None, int] = {}
    for version, n_tokens in (run for turn in turns for run in turn.versions):
        counts[version] = counts.get(version, 0) + n_tokens
    return counts


def _shape(turn: RecordedTurn) -> TurnShape:
    return TurnShape(
        id=turn.id,
        parent_id=turn.parent_id,
        outcome=str(turn.outcome),
        n_prompt=len(turn.prompt_delta),
        n_sampled=len(turn.completion),
        versions=turn.versions,
    )


def _stream(path: Iterable[RecordedTurn]) -> TokenIds:
    return np.concatenate([part for turn in path for part in (turn.prompt_delta, turn.completion)])


def _prompt(turn: RecordedTurn, by_id: Mapping[str, RecordedTurn]) -> TokenIds:
    parts = [turn.prompt_delta]
    while turn.parent_id is not None:
        turn = by_id[turn.parent_id]
        parts += [turn.completion, turn.prompt_delta]
    return np.concatenate(parts[::-1])


def _under(turn: RecordedTurn, version: str) -> npt.NDArray[np.bool_]:
    """Which tokens of a turn's completion a policy version sampled."""
    if not turn.versions:
        return np.zeros(len(turn.completion), bool)
    names, counts = zip(*turn.versions, strict=True)
    return np.repeat([name == version for name in names], counts)


def _difference(left: Sequence[int], right: Sequence[int]) -> int | None:
    """Finds where two sequences begin to differ; ``None`` if they are equal."""
    for place, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return place
    return None if len(left) == len(right) else min(len(left), len(right))

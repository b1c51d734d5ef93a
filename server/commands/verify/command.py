"""``tickertape verify`` for a person to watch: reads a tape, has it checked, says what was found."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import cast

import orjson
from rich.console import Console

from tickertape.clients.calls import SampleQuery
from tickertape.clients.engines.choose import make_engine
from tickertape.clients.engines.engine import Feature
from tickertape.clients.engines.errors import EngineError
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.commands.export import filters_of
from tickertape.server.commands.output import asking
from tickertape.server.commands.sample_files import open_source, source_name
from tickertape.server.commands.verify.checking import Verifier
from tickertape.server.commands.verify.findings import RecordedTurn, SessionCheck, Tolerances
from tickertape.server.commands.verify.report import Spell, VerifyReport, as_dict, print_report

#: Sessions that are checked at once.
_AT_ONCE = 8
Sessions = Iterator[tuple[str, Sequence[RecordedTurn]]]


class VerifyError(ValueError):
    """The verification cannot be done; the text says why."""


@dataclass(frozen=True, slots=True)
class Which:
    """Which sessions of a source."""

    named: Sequence[str] = ()
    where: Sequence[str] = ()
    limit: int | None = None


def run_verify(
    source: str,
    engine: str,
    which: Which,
    rules: Tolerances,
    *,
    api_key: str | None = None,
    engine_api_key: str | None = None,
    model: str | None = None,
    as_json: bool = False,
) -> int:
    """Verifies, prints what was found on standard output, and returns the exit code.

    Args:
        source: URL of a running server, or a tape: a file or the URL of a database.
        engine: ``KIND=URL``.
        which: sessions.
        rules: what counts as the same.
        api_key: for a server that asks for one.
        engine_api_key: the engine's.
        model: hub name or directory of a tokenizer, to spell tokens out.
        as_json: one JSON object instead of tables.

    Raises:
        VerifyError: the engine gives no logprobs of prompts, or there is no such session.
        CommandError: the server cannot be reached, or refuses.
        UnknownEngine, ExportError, StoreError, TokenizerError, EngineError: see there.
    """
    if which.named and which.where:
        raise VerifyError("--session names sessions, --where filters them: give one of the two")
    tokenizer = None if model is None else Tokenizer.load(model)
    wanted = cast("SampleQuery", filters_of(which.where))
    with asking(source_name(source)), closing(open_source(source, wanted, api_key)) as opened:
        sessions = islice(opened.sessions(which.named), which.limit)
        report = asyncio.run(_verify(sessions, engine, engine_api_key, rules))
    if not report.sessions:
        raise VerifyError(f"{source_name(source)}: there is no such session")
    if as_json:
        print(orjson.dumps(as_dict(report), option=orjson.OPT_INDENT_2).decode())
    else:
        print_report(report, Console(highlight=False), spell=_spelling(tokenizer))
    return report.exit_code


async def _verify(sessions: Sessions, spec: str, api_key: str | None, rules: Tolerances) -> VerifyReport:
    engine = make_engine(spec, api_key)
    try:
        info = await engine.start()
        if Feature.SCORE not in info.features:
            raise VerifyError(f"{info.name} at {info.url} gives no logprobs of a prompt, so nothing can be compared")
        report = VerifyReport(info, await engine.policy_version(), rules)
        verifier = Verifier(engine, info, rules)
        while some := list(islice(sessions, _AT_ONCE)):
            for found in await asyncio.gather(*(_session(verifier, *each) for each in some)):
                report.add(found)
        return report
    finally:
        await engine.close()


async def _session(verifier: Verifier, session_id: str, turns: Sequence[RecordedTurn]) -> SessionCheck:
    try:
        return await verifier.session(turns)
    except EngineError as error:
        raise VerifyError(f"session {session_id}: {error}") from error


def _spelling(tokenizer: Tokenizer | None) -> Spell:
    if tokenizer is None:
        return lambda _: ""
    return lambda token: (
        f" {tokenizer.decode([token])!r}" if token < tokenizer.vocab_size else " (beyond the vocabulary)"
    )

"""Keeps the tape within its limits: once, or as long as the server runs."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tickertape.server.store.age_clock import AgeClock
from tickertape.server.store.retention import Limits, RetentionReport, drop, due, finish_idle
from tickertape.server.store.store import Store, StoreError

_log = logging.getLogger("tickertape")


@dataclass(frozen=True, slots=True)
class Kept:
    """Report of what was done."""

    finished_idle: int
    """Sessions that were finished because no agent called any more."""
    report: RetentionReport
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Keeper:
    """Finishes and drops sessions of one tape.

    Args:
        store: the tape.
        ages: says how old things are.
        forget: called with the ids of sessions that were dropped, which may be used anew.
    """

    store: Store
    ages: AgeClock
    forget: Callable[[Collection[str]], None]


async def keep_within(
    keeper: Keeper, limits: Limits, *, idle_seconds: float | None = None, dry_run: bool = False
) -> Kept:
    """Finishes idle sessions and drops what is over the limits; says so in the log.

    Args:
        keeper: of the tape.
        limits: see :class:`Limits`.
        idle_seconds: finish sessions without a call for so long; must be longer than any generation takes.
        dry_run: only say what would be dropped.

    Raises:
        StoreError: the tape cannot be read or written.
    """
    store, ages = keeper.store, keeper.ages
    finished = 0
    while idle_seconds is not None and not dry_run:
        idle_since = ages.now(idle_seconds) - idle_seconds
        session_ids = await store.write(finish_idle, idle_since, time.time())
        for session_id in session_ids:
            store.note_closed(session_id)
        finished += len(session_ids)
        if not session_ids:
            break
    plan = await store.read(due, limits, ages.now(limits.keep_seconds or 0.0))
    if not dry_run:
        for part in plan.parts():
            keeper.forget(await store.write(drop, part))
    report = plan.report
    if finished:
        _log.info("finished %d sessions that were idle for more than %g seconds", finished, idle_seconds)
    if any(report.dropped.values()) or report.kept_open or report.kept_leased:
        _log.warning("%s%s", "dry run: " if dry_run else "", report)
    return Kept(finished, report, dry_run)


async def keep_keeping(keeper: Keeper, limits: Limits, *, idle_seconds: float | None, every: float = 60.0) -> None:
    """Runs :func:`keep_within` every so many seconds until cancelled. A tape that cannot be written is logged, and
    tried again."""
    while True:
        await asyncio.sleep(every)
        try:
            await keep_within(keeper, limits, idle_seconds=idle_seconds)
        except StoreError:
            _log.exception("retention")

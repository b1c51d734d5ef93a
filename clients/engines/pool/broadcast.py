"""One order to all engines of a pool."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from tickertape.clients.engines.engine import Engine, Feature
from tickertape.clients.engines.errors import EngineCannot, EngineError
from tickertape.clients.engines.pool.member import Member, MemberState


async def tell_all(
    members: Iterable[Member], feature: Feature, order: Callable[[Engine], Awaitable[None]], done: str
) -> dict[str, str]:
    """Gives an order to every engine that has the feature.

    Returns:
        By name: ``done``, ``cannot``, or what failed.
    """
    told = list(members)
    results = await asyncio.gather(*(_tell(member, feature, order, done) for member in told))
    return dict(zip([member.name for member in told], results, strict=True))


async def _tell(member: Member, feature: Feature, order: Callable[[Engine], Awaitable[None]], done: str) -> str:
    if member.info is None or member.state is MemberState.DOWN:
        return f"{member.state}: {member.reason}"
    if feature not in member.info.features:
        return "cannot"
    try:
        await order(member.engine)
    except EngineCannot:
        return "cannot"
    except EngineError as error:
        return str(error)
    return done

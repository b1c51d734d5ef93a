"""The connections to an engine, and who uses them."""

import asyncio

from aiohttp import web

from tests.engines import serving_aiohttp
from tickertape.clients.engines.http import EngineConnection


async def test_probes_leave_the_connections_of_calls_to_end_when_they_are_idle() -> None:
    ports: dict[str, set[int]] = {"GET": set(), "POST": set()}

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports[request.method].add(request.transport.get_extra_info("peername")[1])
        await asyncio.sleep(0.05 if request.method == "POST" else 0)
        return web.json_response({})

    app = web.Application()
    app.add_routes([web.route("*", "/", answer)])
    with serving_aiohttp(app) as url:
        connection = EngineConnection(url)
        await connection.open()
        await asyncio.gather(*(connection.post_json("/", b"{}") for _ in range(5)))
        for _ in range(10):
            await connection.check("/")
        await connection.close()
    assert len(ports["POST"]) == 5
    assert len(ports["GET"]) == 1
    assert not ports["GET"] & ports["POST"]

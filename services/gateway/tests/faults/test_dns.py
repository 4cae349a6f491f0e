"""A pool's host name stands for other addresses: new requests go there, streams under way go on."""

import asyncio
from typing import Any

from faults.raw_upstream import answer, begin_stream
from faults.wire import CHAT as PATH

DONE = b"data: [DONE]\n\n"


async def test_a_change_of_dns(gateway: Any, raw: Any, auth: dict[str, str]) -> None:
    go_on = asyncio.Event()

    async def stream(writer: asyncio.StreamWriter) -> None:
        await begin_stream(writer)
        await go_on.wait()
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(DONE), DONE))

    old = await raw(stream)
    new = await raw(answer, "127.0.0.2", old.port)
    addresses: list[str] | OSError = ["127.0.0.1"]

    async def resolve(host: str) -> list[str]:
        assert host == "workers.example"
        if isinstance(addresses, OSError):
            raise addresses
        return addresses

    pool = {"dns": f"http://workers.example:{old.port}", "slow_start_s": 0}
    setup = await gateway(pools={"d": pool}, models={"m": {"pool": "d"}})
    router = setup.gateway.router
    router._resolve = resolve
    await router.discover()
    body = {"model": "m", "messages": [], "stream": True}
    async with setup.client.stream("POST", PATH, json=body, headers=auth) as response:
        pieces = response.aiter_bytes()
        text = await anext(pieces)
        addresses = ["127.0.0.2"]
        await router.discover()
        assert (await setup.chat()).status_code == 200
        addresses = OSError("the resolver does not answer")
        await router.discover()
        assert (await setup.chat()).status_code == 200
        go_on.set()
        async for piece in pieces:
            text += piece
    assert text.endswith(DONE)
    assert (old.requests, new.requests) == (1, 2)
    assert [m.name for m in router.pools["d"].members] == [f"http://127.0.0.2:{old.port}"]

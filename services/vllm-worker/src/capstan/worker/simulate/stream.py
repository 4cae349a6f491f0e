"""One completion: from the engine's tokens to the response's bytes."""

import asyncio
import time

from capstan.worker.simulate.engine import Clock, Engine, Request
from capstan.worker.simulate.faults import TOKENS_BEFORE, Fault
from capstan.worker.simulate.http import EVENTS, Exchange
from capstan.worker.simulate.protocol import Generation, Refused
from capstan.worker.simulate.responses import DONE, Body


class Stream:
    """Answers one validated request. A client that leaves ends the generation with the engine's next step."""

    def __init__(
        self, exchange: Exchange, engine: Engine, clock: Clock, generation: Generation, request_id: str, fault: Fault
    ) -> None:
        self._exchange = exchange
        self._engine = engine
        self._clock = clock
        self._generation = generation
        self._request = generation.request
        self._body = Body(generation, request_id, int(time.time()))
        self._fault = fault
        self._news = asyncio.Event()
        self._gone = False

    async def run(self) -> None:
        """Generate and respond. Raises `Refused` before the response has started."""
        if self._fault.name == "error-500":
            raise Refused(500, "simulated failure (x-sim-fault)", "InternalServerError")
        self._request.on_token = self._on_token
        watch = self._exchange.when_gone(self._leave)
        self._engine.add(self._request, self._clock.now())
        try:
            await self._respond()
        finally:
            watch.cancel()
            self._engine.abort(self._request)  # no effect once it has ended

    async def _respond(self) -> None:
        if self._fault.name == "slow-headers":
            await self._clock.sleep(self._fault.seconds)
        if self._fault.name == "hang":
            await self._hang()
        elif self._generation.stream:
            await self._send_stream()
        else:
            while self._request.finished is None and not self._gone:
                await self._wait()
            if not self._gone:
                await self._exchange.json(self._body.whole())

    async def _send_stream(self) -> None:
        await self._exchange.start(200, EVENTS)
        sent = 0
        while not self._gone:
            await self._wait()
            # What the engine made while the client read slowly goes out in one write.
            chunks = [self._body.token(number) for number in range(sent + 1, self._request.sent + 1)]
            if not sent and chunks and self._generation.chat:
                chunks.insert(0, self._body.role())
            sent = self._request.sent
            if self._request.finished is not None:
                await self._exchange.write(b"".join([*chunks, *self._ending()]), more=False)
                return
            await self._exchange.write(b"".join(chunks))
            if sent >= TOKENS_BEFORE and self._fault.name == "hang-mid-stream":
                await self._hang()
            if sent >= TOKENS_BEFORE and self._fault.name == "die-mid-stream":
                return  # without an end, so that the server breaks the connection

    def _ending(self) -> list[bytes]:
        ending = [self._body.usage()] if self._generation.usage else []
        if self._request.finished == "abort":  # a drain's end: no token carries the reason
            ending.insert(0, self._body.piece("", self._request.sent, "abort"))
        return [*ending, DONE]

    async def _wait(self) -> None:
        await self._news.wait()
        self._news.clear()

    async def _hang(self) -> None:
        while not self._gone:
            await self._wait()

    def _on_token(self, request: Request) -> None:
        if request.sent == 1:
            self._body.remember_cached()
        self._news.set()

    def _leave(self) -> None:
        self._gone = True
        self._engine.abort(self._request)
        self._news.set()

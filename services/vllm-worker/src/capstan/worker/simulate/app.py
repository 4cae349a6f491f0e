"""The simulator's HTTP API: vLLM's routes that Capstan uses, as a raw ASGI application."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from capstan.common.context import REQUEST_ID_HEADER
from capstan.common.telemetry import server_span, tracing_enabled
from capstan.worker.simulate import protocol, text
from capstan.worker.simulate.adapters import Adapters
from capstan.worker.simulate.engine import Clock, Engine
from capstan.worker.simulate.faults import HEADER, Fault
from capstan.worker.simulate.http import Disconnected, Exchange, Receive, Scope, Send
from capstan.worker.simulate.metrics import Metrics
from capstan.worker.simulate.protocol import Refused
from capstan.worker.simulate.stream import Stream

log = logging.getLogger("capstan.worker")

VERSION = "0.32.0"


class Simulator:
    """One simulated vLLM server. Its engine runs from ASGI startup to shutdown."""

    def __init__(
        self,
        *,
        model: str,
        context: int,
        engine: Engine,
        metrics: Metrics,
        adapters: Adapters,
        clock: Clock,
        seed: int,
        faults: bool,
    ) -> None:
        self.engine = engine
        self.draining = False
        self._model = model
        self._context = context
        self._metrics = metrics
        self._adapters = adapters
        self._clock = clock
        self._faults = faults
        self._ids = Random(seed)  # noqa: S311 - ids, not secrets
        self._open = 0
        self._started = int(time.time())
        self._routes: dict[tuple[str, str], Callable[[Exchange], Awaitable[None]]] = {
            ("GET", "/health"): lambda x: x.respond(200),
            ("GET", "/ping"): lambda x: x.respond(200),
            ("POST", "/ping"): lambda x: x.respond(200),
            ("GET", "/load"): lambda x: x.json({"server_load": self._open}),
            ("GET", "/version"): lambda x: x.json({"version": VERSION}),
            ("GET", "/metrics"): self._show_metrics,
            ("GET", "/v1/models"): lambda x: x.json({"object": "list", "data": self._models()}),
            ("POST", "/v1/chat/completions"): lambda x: self._traced(x, chat=True),
            ("POST", "/v1/completions"): lambda x: self._traced(x, chat=False),
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/v1/load_lora_adapter"): self._load_adapter,
            ("POST", "/v1/unload_lora_adapter"): self._unload_adapter,
        }
        self._paths = {path for _, path in self._routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            exchange = Exchange(scope, receive, send)
            try:
                await self._route(scope, exchange)
            except Refused as refusal:
                await exchange.json(refusal.body, refusal.status)
            except Disconnected:
                return

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        running = asyncio.create_task(self.engine.run(self._clock))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        running.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def _route(self, scope: Scope, exchange: Exchange) -> None:
        handler = self._routes.get((scope["method"], scope["path"]))
        if handler is not None:
            await handler(exchange)
        elif scope["path"] in self._paths:
            await exchange.json({"detail": "Method Not Allowed"}, 405)
        else:
            await exchange.json({"detail": "Not Found"}, 404)

    async def _traced(self, exchange: Exchange, *, chat: bool) -> None:
        """With a span named as vLLM's own; hundreds of untraced streams write no log."""
        headers = {name: exchange.header(name.encode()) for name in ("traceparent", "tracestate")}
        with server_span("llm_request", headers, **{"gen_ai.request.model": self._model}):
            await self._complete(exchange, chat=chat)
            if tracing_enabled():
                log.info("request", extra={"request_id": exchange.header(REQUEST_ID_HEADER.encode())})

    async def _complete(self, exchange: Exchange, *, chat: bool) -> None:
        body = await _object(exchange)
        fault = self._fault(exchange)
        names = (self._model, *self._adapters.names())
        generation = protocol.generation(body, chat=chat, models=names, base=self._model, context=self._context)
        if self.draining or self.engine.full:
            self._metrics.rejected.inc()
            raise Refused(503, protocol.BUSY, "Service Unavailable")
        request_id = exchange.header(b"x-request-id") or f"{self._ids.getrandbits(64):016x}"
        prefix = "chatcmpl" if chat else "cmpl"
        self._open += 1
        try:
            stream = Stream(exchange, self.engine, self._clock, generation, f"{prefix}-{request_id}", fault)
            await stream.run()
        finally:
            self._open -= 1

    def _fault(self, exchange: Exchange) -> Fault:
        header = exchange.header(HEADER) if self._faults else ""
        if not header:
            return Fault()
        try:
            return Fault.parse(header)
        except ValueError as error:
            raise Refused(400, str(error), param="x-sim-fault") from None

    async def _show_metrics(self, exchange: Exchange) -> None:
        await exchange.respond(200, generate_latest(self._metrics.registry), CONTENT_TYPE_LATEST)

    async def _tokenize(self, exchange: Exchange) -> None:
        body = await _object(exchange)
        prompt, _ = protocol.prompt_of(body, chat="messages" in body)
        ids = text.token_ids(text.tokenize(prompt))
        await exchange.json({"count": len(ids), "max_model_len": self._context, "tokens": ids, "token_strs": None})

    async def _load_adapter(self, exchange: Exchange) -> None:
        await exchange.respond(200, self._adapters.load(await _object(exchange)).encode(), "")

    async def _unload_adapter(self, exchange: Exchange) -> None:
        await exchange.respond(200, self._adapters.unload(await _object(exchange)).encode(), "")

    def _models(self) -> list[dict[str, Any]]:
        base = _card(self._model, self._started, root=self._model, parent=None, max_model_len=self._context)
        return [
            base,
            *(
                _card(n, self._started, root=p, parent=self._model, max_model_len=None)
                for n, p in self._adapters.items()
            ),
        ]


async def _object(exchange: Exchange) -> dict[str, Any]:
    body = await exchange.body()
    return protocol.parse_object(body, exchange.header(b"content-type"))


def _card(name: str, created: int, *, root: str, parent: str | None, max_model_len: int | None) -> dict[str, Any]:
    allowed = {"create_engine": False, "sampling": True, "logprobs": True, "search_indices": False, "view": True}
    permission = {"id": f"modelperm-{name}", "object": "model_permission", "created": created}
    permission |= {f"allow_{what}": value for what, value in allowed.items()}
    permission |= {"allow_fine_tuning": False, "organization": "*", "group": None, "is_blocking": False}
    card = {"id": name, "object": "model", "created": created, "owned_by": "vllm", "root": root, "parent": parent}
    return card | {"max_model_len": max_model_len, "permission": [permission]}

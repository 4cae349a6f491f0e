"""The generator's HTTP interface: chat completions whose model is the documents."""

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from capstan.common.app import create_app, require_identity
from capstan.common.disconnect import ClientGone, until_disconnect
from capstan.common.errors import ApiError, error_body
from capstan.common.http import service_client
from capstan.common.identity import IDENTITY_HEADER, Identity
from capstan.generator.answer import Answer, Answerer
from capstan.generator.chat import ChatFormat, ChatRequest, annotations, details
from capstan.generator.embeddings import Embeddings
from capstan.generator.evidence import EvidenceFinder, Headers
from capstan.generator.feedback import feedback_router
from capstan.generator.history import Keeping, history_router
from capstan.generator.interleave import interleave_router
from capstan.generator.llm import Llm, LlmBroke, LlmRejected
from capstan.generator.metrics import Metrics
from capstan.generator.options import load_arms
from capstan.generator.page import page_router
from capstan.generator.records import Records
from capstan.generator.settings import GeneratorSettings

_DONE = b"data: [DONE]\n\n"
_SSE_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def create_generator(settings: GeneratorSettings) -> FastAPI:
    """The application."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    retriever = service_client(str(settings.retriever_url), timeout_s=20)
    reranker = service_client(str(settings.reranker_url), timeout_s=20)
    gateway = service_client(str(settings.gateway_url), timeout_s=settings.llm_timeout_s)
    records = Records(settings.data_dir, keep_days=settings.keep_answers, registry=registry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with retriever, reranker, gateway, records:
            yield

    app = create_app("generator", settings=settings, ready=lambda: None, registry=registry, lifespan=lifespan)
    arms = load_arms(settings)
    finder = EvidenceFinder(retriever, reranker)

    def embed(headers: Headers) -> Embeddings:
        return Embeddings(retriever, headers, timeout_s=settings.embeddings_timeout_s)

    answerer = Answerer(finder, Llm(gateway, settings.llm), settings, embed=embed)

    app.include_router(history_router(records))
    app.include_router(feedback_router(records))
    app.include_router(interleave_router(records, finder, arms))
    app.include_router(page_router())

    @app.get("/v1/models", tags=["models"])
    async def models() -> dict[str, Any]:
        """The documents as a model, and one model for each arm."""
        data = [{"id": name, "object": "model", "owned_by": "capstan"} for name in arms.models()]
        return {"object": "list", "data": data}

    @app.get("/v1/arms", tags=["models"])
    async def list_arms() -> dict[str, Any]:
        """The named sets of options, each with all that it sets."""
        return {"object": "list", "data": arms.listing()}

    @app.post("/v1/chat/completions", tags=["inference"], response_model=None)
    async def chat(
        body: ChatRequest, request: Request, identity: Annotated[Identity, Depends(require_identity)]
    ) -> Response:
        """Answer the last user message from the documents, with citations."""
        arm = arms.of_model(body.model)
        options = body.capstan.over(arms.options(arm))
        headers = {
            IDENTITY_HEADER: request.app.state.signer.sign(Identity(identity.tenant, "generator")),
        }
        tokens = body.answer_tokens(settings.answer_tokens, settings.context_tokens // 2)
        preparing = answerer.prepare(body.turns(), arm, arms.llm(arm), options, tokens, headers)
        answer = await until_disconnect(request.receive, preparing)
        form = ChatFormat(id=f"chatcmpl-{secrets.token_hex(12)}", created=int(time.time()), model=body.model)
        asked = body.turns()[-1].text
        kept = Keeping(records, identity.tenant, form.head, asked, answer, streamed=body.stream)
        text = kept.follow(answerer.stream(answer, body.sampling(tokens), headers))
        if body.stream:
            wants_usage = bool(body.stream_options and body.stream_options.include_usage)
            events = _events(answer, text, form, metrics, include_usage=wants_usage)
            return EventStream(events, media_type="text/event-stream", headers=_SSE_HEADERS)
        return await until_disconnect(request.receive, _whole(answer, text, form, metrics))

    return app


class EventStream(StreamingResponse):
    """A stream that stops with its client, also while the model is silent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or the client goes away."""
        with suppress(ClientGone):
            await until_disconnect(receive, self._stream(send))

    async def _stream(self, send: Send) -> None:
        """Whatever ends it, the events end here and now, not when they are collected as garbage."""
        assert isinstance(self.body_iterator, AsyncGenerator)
        async with aclosing(self.body_iterator):
            await self.stream_response(send)


async def _whole(answer: Answer, text: AsyncGenerator[str, None], form: ChatFormat, metrics: Metrics) -> JSONResponse:
    try:
        async for _ in text:
            pass
    except LlmRejected as error:
        raise ApiError(400, "invalid_request", str(error)) from None
    except LlmBroke as error:
        raise ApiError(502, "upstream_died", f"the language model's answer broke off: {error}") from None
    metrics.record(answer)
    return JSONResponse(form.completion(answer))


async def _events(
    answer: Answer, text: AsyncGenerator[str, None], form: ChatFormat, metrics: Metrics, *, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    yield _event(form.chunk({"role": "assistant", "content": ""}))
    if answer.options.trace:
        yield _event(form.trace_chunk(answer))
    try:
        async with aclosing(text) as pieces:
            async for piece in pieces:
                yield _event(form.chunk({"content": piece}))
    except LlmRejected as error:
        yield _event(error_body(str(error), "invalid_request_error", "invalid_request"))
        return
    except LlmBroke as error:
        message = f"the language model's answer broke off: {error}"
        yield _event(error_body(message, "upstream_error", "upstream_died"))
        return
    metrics.record(answer)
    delta = {"annotations": annotations(answer)}
    yield _event(form.chunk(delta, finish_reason=answer.usage.finish_reason, capstan=details(answer)))
    if include_usage:
        yield _event(form.usage_chunk(answer))
    yield _DONE


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"

"""The generator's HTTP interface: chat completions whose model is the documents."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import Receive, Scope, Send

from capstan.common.app import create_app, require_identity
from capstan.common.context import request_id
from capstan.common.disconnect import ClientGone, until_disconnect
from capstan.common.errors import ApiError, error_body
from capstan.common.http import service_client
from capstan.common.identity import IDENTITY_HEADER, Identity
from capstan.generator.answer import Answer, Answerer
from capstan.generator.chat import ChatFormat, ChatRequest, annotations, details
from capstan.generator.evidence import EvidenceFinder
from capstan.generator.llm import Llm, LlmBroke, LlmRejected
from capstan.generator.settings import GeneratorSettings

_DONE = b"data: [DONE]\n\n"
_SSE_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class _Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.answers = Counter("capstan_generator_answers_total", "Answers by mode.", ("mode",), registry=registry)
        self.sentences = Counter(
            "capstan_generator_sentences_total", "Answer sentences by support.", ("supported",), registry=registry
        )
        self.evidence = Histogram(
            "capstan_generator_evidence_seconds", "Retrieving and reranking for one question.", registry=registry
        )
        self.unranked = Counter(
            "capstan_generator_unranked_total", "Answers in the retriever's order, reranker down.", registry=registry
        )

    def record(self, answer: Answer) -> None:
        self.answers.labels(answer.mode.value).inc()
        self.evidence.observe(answer.timings_ms["evidence"] / 1e3)
        self.unranked.inc(answer.evidence.unranked is not None)
        self.sentences.labels("yes").inc(answer.binder.supported)
        self.sentences.labels("no").inc(answer.binder.sentences - answer.binder.supported)


def create_generator(settings: GeneratorSettings) -> FastAPI:
    """The application."""
    registry = CollectorRegistry()
    metrics = _Metrics(registry)
    retriever = service_client(str(settings.retriever_url), timeout_s=20)
    reranker = service_client(str(settings.reranker_url), timeout_s=20)
    gateway = service_client(str(settings.gateway_url), timeout_s=settings.llm_timeout_s)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with retriever, reranker, gateway:
            yield

    app = create_app("generator", settings=settings, ready=lambda: None, registry=registry, lifespan=lifespan)
    finder = EvidenceFinder(retriever, reranker, candidates=settings.candidates)
    answerer = Answerer(finder, Llm(gateway, settings.llm), settings)

    @app.get("/v1/models", tags=["models"])
    async def models() -> dict[str, Any]:
        """The one model of this service."""
        return {"object": "list", "data": [{"id": settings.model_name, "object": "model", "owned_by": "capstan"}]}

    @app.post("/v1/chat/completions", tags=["inference"], response_model=None)
    async def chat(
        body: ChatRequest, request: Request, identity: Annotated[Identity, Depends(require_identity)]
    ) -> Response:
        """Answer the last user message from the documents, with citations."""
        if body.model != settings.model_name:
            message = f"the model {body.model[:100]!r} does not exist here; the model is {settings.model_name}"
            raise ApiError(404, "model_not_found", message, param="model")
        headers = {
            IDENTITY_HEADER: request.app.state.signer.sign(Identity(identity.tenant, "generator")),
        }
        tokens = body.answer_tokens(settings.answer_tokens, settings.context_tokens // 2)
        preparing = answerer.prepare(body.question(), tokens, headers)
        answer = await until_disconnect(request.receive, preparing)
        text = answerer.stream(answer, body.options(tokens), headers)
        form = ChatFormat(id=f"chatcmpl-{request_id.get()}", created=int(time.time()), model=settings.model_name)
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
            await until_disconnect(receive, self.stream_response(send))


async def _whole(answer: Answer, text: AsyncGenerator[str, None], form: ChatFormat, metrics: _Metrics) -> JSONResponse:
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
    answer: Answer, text: AsyncGenerator[str, None], form: ChatFormat, metrics: _Metrics, *, include_usage: bool
) -> AsyncIterator[bytes]:
    yield _event(form.chunk({"role": "assistant", "content": ""}))
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

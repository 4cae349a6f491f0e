"""The `openai` clients for Python and JavaScript, and plain HTTP, against the gateway over a real vLLM."""

import json
import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import httpx2
import openai
import pytest
from compatibility_gateway import HOSTED_KEY, MODEL, VECTOR, CompatibilityGateway
from compatibility_requests import ANTHROPIC_TOOL, CHAT, FLAT_TOOL, SCHEMA, TOOL, WEATHER, events
from openai_js import run_suite
from pydantic import BaseModel

pytestmark = pytest.mark.vllm

LONG: Any = {"messages": CHAT, "max_tokens": 7000, "extra_body": {"ignore_eos": True}}
"""Minutes of work: whatever ends sooner was aborted."""


class Weather(BaseModel):
    """What a strict schema makes of the model's answer."""

    city: Literal["Paris", "Rome"]


class Report(BaseModel):
    """The answer asked for by schema."""

    city: Literal["Paris", "Rome"]
    warm: bool


NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}


@pytest.fixture
def client(gateway: CompatibilityGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.usual, max_retries=0, timeout=120) as client:
        yield client


# Models


def test_models_are_listed_and_found_by_name(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {MODEL, "narrow", "reranker", "embedder"}
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError, match="gpt-4"):
        client.models.retrieve("gpt-4")


# Chat


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=CHAT, max_completion_tokens=4, temperature=0)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage
    assert answer.usage.completion_tokens == 4
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 4
    assert answer.usage.prompt_tokens_details
    assert answer.usage.prompt_tokens_details.cached_tokens is not None


@pytest.mark.parametrize("asked", [True, False, None])
def test_a_stream_tells_usage_only_to_those_who_ask(client: openai.OpenAI, asked: bool | None) -> None:
    options: Any = {} if asked is None else {"stream_options": {"include_usage": asked}}
    request: Any = {"model": MODEL, "messages": CHAT, "max_tokens": 6, "temperature": 0}
    whole = client.chat.completions.create(**request)
    chunks = list(client.chat.completions.create(**request, stream=True, **options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    if asked:
        assert whole.usage
        assert chunks[-1].choices == []
        assert chunks[-1].usage
        assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
        assert all(chunk.usage is None for chunk in chunks[:-1])
    else:
        assert chunks[-1].choices[0].finish_reason == "length"
        assert all(chunk.usage is None for chunk in chunks)


def test_usage_on_every_chunk(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=CHAT, max_tokens=4, stream=True, stream_options=options)
    )
    assert all(chunk.usage for chunk in chunks)
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 4


def test_several_choices(client: openai.OpenAI) -> None:
    request: Any = {"model": MODEL, "messages": CHAT, "max_tokens": 4, "n": 2}
    answer = client.chat.completions.create(**request)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage
    chunks = list(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens <= 8


def test_stop_ends_before_the_word(client: openai.OpenAI) -> None:
    request: Any = {"model": MODEL, "messages": CHAT, "max_tokens": 20, "temperature": 0}
    free = client.chat.completions.create(**request).choices[0].message.content
    assert free
    stop = free[3]
    stopped = client.chat.completions.create(**request, stop=[stop]).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == free[: free.index(stop)]


def test_a_seed_repeats_itself(client: openai.OpenAI) -> None:
    request: Any = {"model": MODEL, "messages": WEATHER, "max_tokens": 12, "temperature": 1}
    texts = [client.chat.completions.create(**request, seed=s).choices[0].message.content for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_chat_logprobs(client: openai.OpenAI) -> None:
    request: Any = {"model": MODEL, "messages": CHAT, "max_tokens": 2, "logprobs": True, "top_logprobs": 3}
    logprobs = client.chat.completions.create(**request, temperature=0).choices[0].logprobs
    assert logprobs
    assert [len(token.top_logprobs) for token in logprobs.content or []] == [3, 3]
    chunks = list(client.chat.completions.create(**request, temperature=0, stream=True))
    streamed = [token for chunk in chunks if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
    assert [token.token for token in streamed] == [token.token for token in logprobs.content or []]


async def test_the_asynchronous_client_streams(gateway: CompatibilityGateway) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.usual, max_retries=0) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=CHAT, max_tokens=4, stream=True)
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices[0].finish_reason


# Completions


def test_completions(client: openai.OpenAI) -> None:
    request: Any = {"model": MODEL, "prompt": "The pipe", "max_tokens": 4, "temperature": 0}
    whole = client.completions.create(**request)
    assert whole.usage
    assert whole.usage.completion_tokens == 4
    chunks = list(client.completions.create(**request, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


def test_completions_of_several_prompts(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=["The pipe", "The file"], max_tokens=2)
    assert [choice.index for choice in answer.choices] == [0, 1]


def test_echo_and_logprobs(client: openai.OpenAI) -> None:
    request: Any = {"model": MODEL, "prompt": "Hello world", "max_tokens": 1, "echo": True, "logprobs": 1}
    choice = client.completions.create(**request).choices[0]
    assert choice.text.startswith("Hello world")
    assert choice.logprobs
    assert choice.logprobs.tokens
    assert choice.logprobs.tokens[:2] == ["Hello", " world"]
    streamed = list(client.completions.create(**request, stream=True))
    assert "".join(chunk.choices[0].text for chunk in streamed).startswith("Hello world")


# Tools


@pytest.mark.parametrize("choice", [NAMED, "required"], ids=["named", "required"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_by_its_schema(client: openai.OpenAI, choice: Any, stream: bool) -> None:
    request: Any = {"model": MODEL, "messages": WEATHER, "tools": [TOOL], "tool_choice": choice, "max_tokens": 128}
    if stream:
        with client.chat.completions.stream(**request, temperature=0) as run:
            answer: Any = run.get_final_completion()
    else:
        answer = client.chat.completions.create(**request, temperature=0)
    (call,) = answer.choices[0].message.tool_calls
    assert call.id
    assert call.function.name == "get_weather"
    assert Weather.model_validate_json(call.function.arguments)


def test_a_tool_call_comes_in_pieces(client: openai.OpenAI) -> None:
    chunks = client.chat.completions.create(
        model=MODEL, messages=WEATHER, tools=[TOOL], tool_choice="required", max_tokens=128, stream=True
    )
    pieces = [piece for chunk in chunks for choice in chunk.choices for piece in choice.delta.tool_calls or []]
    names = [piece.function.name for piece in pieces if piece.function and piece.function.name]
    arguments = [piece.function.arguments for piece in pieces if piece.function and piece.function.arguments]
    assert names == ["get_weather"]
    assert pieces[0].id
    assert len(arguments) > 1
    assert Weather.model_validate_json("".join(arguments))


def test_a_parsed_tool_call(client: openai.OpenAI) -> None:
    tool = openai.pydantic_function_tool(Weather, name="get_weather")
    answer = client.chat.completions.parse(
        model=MODEL, messages=WEATHER, tools=[tool], tool_choice="required", max_tokens=128, temperature=0
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Weather)


def test_a_model_that_may_call_a_tool_answers_well_formed(client: openai.OpenAI) -> None:
    request: Any = {"model": MODEL, "messages": WEATHER, "tools": [TOOL], "tool_choice": "auto", "max_tokens": 64}
    choice = client.chat.completions.create(**request).choices[0]
    assert choice.finish_reason in ("stop", "length", "tool_calls")
    assert choice.message.content or choice.message.tool_calls
    deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(**request, stream=True)]
    assert any(delta.content or delta.tool_calls for delta in deltas)


def test_a_tool_s_result_goes_back(client: openai.OpenAI) -> None:
    asked = client.chat.completions.create(
        model=MODEL, messages=WEATHER, tools=[TOOL], tool_choice=NAMED, max_tokens=128, temperature=0
    )
    (call,) = asked.choices[0].message.tool_calls or []
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "sunny, 21 degrees"}
    messages: Any = [*WEATHER, asked.choices[0].message, result]
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL], max_tokens=8)
    assert answer.usage
    assert asked.usage
    assert answer.usage.prompt_tokens > asked.usage.prompt_tokens  # call and result were read
    assert answer.choices[0].message.content


# Structured outputs


def test_a_json_object(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": 'Write the JSON {"a": 1}.'}]
    answer = client.chat.completions.create(
        model=MODEL, messages=messages, response_format={"type": "json_object"}, max_tokens=128, temperature=0
    )
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


def test_a_json_schema_is_parsed(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=WEATHER, response_format=Report, max_tokens=128, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Report)


def test_a_json_schema_streams(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=WEATHER, response_format=Report, max_tokens=128, temperature=0
    ) as stream:
        kinds = {event.type for event in stream}
        parsed = stream.get_final_completion().choices[0].message.parsed
    assert "content.delta" in kinds
    assert isinstance(parsed, Report)


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({"choice": ["yes", "no"]}, lambda text: text in ("yes", "no")),
        ({"regex": "[0-9]{3}"}, lambda text: len(text) == 3 and text.isdigit()),
        ({"json": SCHEMA}, Weather.model_validate_json),
    ],
    ids=["choice", "regex", "json"],
)
def test_vllm_s_own_structured_outputs(client: openai.OpenAI, rule: Any, fits: Any) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=WEATHER, max_tokens=64, temperature=0, extra_body={"structured_outputs": rule}
    )
    assert fits(answer.choices[0].message.content)


# Responses


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=4, temperature=0)
    assert answer.status == "incomplete"
    assert answer.output_text
    assert answer.usage
    assert answer.usage.output_tokens == 4


def test_responses_stream(client: openai.OpenAI) -> None:
    request: Any = {"model": MODEL, "input": "Say hello.", "max_output_tokens": 4, "temperature": 0}
    seen: list[Any] = list(client.responses.create(**request, stream=True))
    kinds = [event.type for event in seen]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    text = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    assert text == client.responses.create(**request).output_text
    assert seen[-1].response.usage.output_tokens == 4


def test_responses_by_schema(client: openai.OpenAI) -> None:
    answer = client.responses.parse(
        model=MODEL, input=WEATHER, text_format=Report, max_output_tokens=128, temperature=0
    )
    assert isinstance(answer.output_parsed, Report)


@pytest.mark.parametrize("stream", [False, True])
def test_responses_call_tools(client: openai.OpenAI, stream: bool) -> None:
    request: Any = {"model": MODEL, "input": WEATHER, "tools": [FLAT_TOOL], "tool_choice": "required"}
    if stream:
        with client.responses.stream(**request, max_output_tokens=128, temperature=0) as run:
            answer: Any = run.get_final_response()
    else:
        answer = client.responses.create(**request, max_output_tokens=128, temperature=0)
    (call,) = answer.output
    assert (call.type, call.name) == ("function_call", "get_weather")
    assert Weather.model_validate_json(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    asked = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    after = client.responses.create(model=MODEL, input=[*WEATHER, asked, result], max_output_tokens=4)
    assert after.output_text


# Messages: Anthropic's shape


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_messages(gateway: CompatibilityGateway, header: str) -> None:
    credentials = {header: f"Bearer {gateway.usual}" if header == "authorization" else gateway.usual}
    body = {"model": MODEL, "messages": CHAT, "max_tokens": 4, "temperature": 0}
    answer = httpx2.post(f"{gateway.url}/v1/messages", json=body, headers=credentials, timeout=60, trust_env=False)
    assert answer.status_code == 200
    message = answer.json()
    assert (message["type"], message["role"], message["stop_reason"]) == ("message", "assistant", "max_tokens")
    assert message["content"][0]["text"]
    assert message["usage"]["output_tokens"] == 4


def test_messages_stream(gateway: CompatibilityGateway) -> None:
    body = {"model": MODEL, "messages": CHAT, "max_tokens": 4, "temperature": 0}
    with gateway.http() as http:
        whole = http.post("/v1/messages", json=body).json()
        sent = events(http.post("/v1/messages", json={**body, "stream": True}).text)
    kinds = [kind for kind, _ in groupby(event["type"] for event in sent)]
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    text = "".join(event["delta"]["text"] for event in sent if event["type"] == "content_block_delta")
    assert text == whole["content"][0]["text"]
    assert sent[-2]["usage"]["output_tokens"] == 4


def test_messages_call_tools(gateway: CompatibilityGateway) -> None:
    body = {"model": MODEL, "messages": WEATHER, "max_tokens": 128, "temperature": 0}
    with gateway.http() as http:
        tools = {"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "any"}}
        answer = http.post("/v1/messages", json={**body, **tools}).json()
    (block,) = answer["content"]
    assert (block["type"], block["name"], answer["stop_reason"]) == ("tool_use", "get_weather", "tool_use")
    assert Weather.model_validate(block["input"])


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [({"model": "gpt-4"}, 404, "not_found_error"), ({"max_tokens": 1_000_000}, 400, "BadRequestError")],
    ids=["model", "max_tokens"],
)
def test_messages_errors(gateway: CompatibilityGateway, change: dict[str, Any], status: int, kind: str) -> None:
    with gateway.http() as http:
        answer = http.post("/v1/messages", json={"model": MODEL, "messages": CHAT, "max_tokens": 4, **change})
    assert answer.status_code == status
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == kind


# Embeddings and rerank


def test_embeddings_of_a_hosted_api(gateway: CompatibilityGateway, client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="embedder", input=["one", "two"])
    assert [item.embedding for item in answer.data] == [VECTOR, VECTOR]
    assert client.embeddings.create(model="embedder", input="one", encoding_format="float").data[0].embedding == VECTOR
    key, body = gateway.hosted.seen[-1]
    assert key == f"Bearer {HOSTED_KEY}"  # never the tenant's own
    assert body == {"model": "embed-1", "input": "one", "encoding_format": "float"}


def test_rerank_by_our_service(client: openai.OpenAI) -> None:
    documents = ["The sun is a star.", "A pipe is a unidirectional data channel between processes."]
    body = {"model": "reranker", "query": "What does a pipe do between processes?", "documents": documents}
    answer: Any = client.post("/rerank", cast_to=object, body=body)
    assert [result["index"] for result in answer["results"]] == [1, 0]
    assert answer["usage"]["total_tokens"] > 0


# Errors, request ids, limits


def test_the_client_s_exceptions(client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as unknown:
        client.with_options(api_key="usual.wrong").chat.completions.create(model=MODEL, messages=CHAT)
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4", messages=CHAT)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="temperature must be") as bad:
        client.chat.completions.create(model=MODEL, messages=CHAT, temperature=5)
    assert (bad.value.param, bad.value.type) == ("temperature", "BadRequestError")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="one")


def test_every_answer_has_a_request_id(client: openai.OpenAI) -> None:
    request: Any = {"model": MODEL, "messages": CHAT, "max_tokens": 1}
    first, second = (client.chat.completions.create(**request)._request_id for _ in range(2))
    assert first
    assert second
    assert first != second
    named = client.chat.completions.create(**request, extra_headers={"x-request-id": "my-own-id"})
    assert named._request_id == "my-own-id"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4", messages=CHAT)
    assert missing.value.request_id


def test_limits_stand_in_the_headers(client: openai.OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(model=MODEL, messages=CHAT, max_tokens=1)
    for kind in ("requests", "tokens"):
        limit, left = (int(answer.headers[f"x-ratelimit-{word}-{kind}"]) for word in ("limit", "remaining"))
        assert 0 <= left <= limit
        assert answer.headers[f"x-ratelimit-reset-{kind}"]


# Going away and coming back


def test_leaving_a_stream_frees_the_worker(gateway: CompatibilityGateway, client: openai.OpenAI) -> None:
    with client.chat.completions.create(model=MODEL, **LONG, stream=True) as stream:
        next(iter(stream))
        assert gateway.running() == 1
    gateway.wait_idle()


def test_a_timeout_of_the_client_frees_the_worker(gateway: CompatibilityGateway, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=1).chat.completions.create(model=MODEL, **LONG)
    gateway.wait_idle()


def test_the_client_waits_out_an_overload(gateway: CompatibilityGateway) -> None:
    """It is refused while the only place is taken, and gets the place once that is free."""
    statuses: list[int] = []

    def leave(response: httpx2.Response) -> None:
        statuses.append(response.status_code)
        if response.status_code == 503:
            assert int(response.headers["retry-after"]) >= 1
            stream.close()

    with (
        httpx2.Client(event_hooks={"response": [leave]}, trust_env=False) as http,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.usual, max_retries=3) as first,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.usual, max_retries=3, http_client=http) as second,
    ):
        stream = first.chat.completions.create(model="narrow", **LONG, stream=True)
        next(iter(stream))
        second.chat.completions.create(model="narrow", messages=CHAT, max_tokens=1)
    assert statuses == [503, 200]


def test_the_client_waits_out_a_quota(gateway: CompatibilityGateway) -> None:
    """Had it come back before the time it was told, it would have been refused again."""
    statuses: list[int] = []
    body = {"model": "embedder", "input": "one"}
    with gateway.http(gateway.hasty) as http:
        answers = (http.post("/v1/embeddings", json=body) for _ in range(100))
        refused = next(answer for answer in answers if answer.status_code != 200)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "request_quota_exceeded"
    assert int(refused.headers["retry-after"]) >= 1
    with (
        httpx2.Client(event_hooks={"response": [lambda r: statuses.append(r.status_code)]}, trust_env=False) as http,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.hasty, max_retries=1, http_client=http) as client,
    ):
        client.embeddings.create(**body)
    assert statuses == [429, 200]


# JavaScript


@pytest.mark.timeout(600)
def test_the_javascript_client_passes_its_suite(gateway: CompatibilityGateway, tmp_path: Path) -> None:
    cache = Path(os.environ["CAPSTAN_CACHE_DIR"])
    names = {"URL": gateway.url, "WORKER_URL": gateway.worker, "KEY": gateway.usual, "HASTY_KEY": gateway.hasty}
    suite = run_suite(cache, tmp_path, {f"CAPSTAN_{name}": value for name, value in names.items()})
    assert suite.returncode == 0, suite.stdout

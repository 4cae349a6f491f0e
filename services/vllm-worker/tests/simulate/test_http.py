"""The simulator's API over real HTTP, in virtual time."""

import json

import openai
import pytest

LONG = "word " * 200


def events(text: str) -> list[dict]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def test_the_openai_client_streams_an_answer(simulate):
    simulated = await simulate()
    async with openai.AsyncOpenAI(base_url=f"{simulated.client.base_url}/v1", api_key="none") as client:
        assert [model.id async for model in await client.models.list()] == ["sim"]
        stream = await client.chat.completions.create(
            model="sim",
            messages=[{"role": "user", "content": "One two three."}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "One two three."
    assert [c.choices[0].finish_reason for c in chunks if c.choices] == [None, None, None, "stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


async def test_usage_on_every_chunk_counts_up(simulate):
    simulated = await simulate()
    options = {"include_usage": True, "continuous_usage_stats": True}
    response = await simulated.chat("a b c d", stream=True, stream_options=options)

    assert [e["usage"]["completion_tokens"] for e in events(response.text)] == [0, 1, 2, 3, 4, 4]


async def test_a_stream_without_options_has_no_usage(simulate):
    simulated = await simulate()
    response = await simulated.chat("a b", stream=True)

    assert not any("usage" in event for event in events(response.text))


async def test_the_answer_stops_at_max_tokens(simulate):
    simulated = await simulate()
    choice = (await simulated.chat("a b c d", max_tokens=2)).json()["choices"][0]

    assert (choice["message"]["content"], choice["finish_reason"]) == ("a b", "length")


async def test_ignore_eos_fills_max_tokens(simulate):
    simulated = await simulate()
    body = (await simulated.chat("a b", max_tokens=9, ignore_eos=True)).json()

    assert body["usage"]["completion_tokens"] == 9
    assert body["choices"][0]["finish_reason"] == "length"


async def test_a_stop_string_ends_the_answer_before_it(simulate):
    simulated = await simulate()
    choice = (await simulated.chat("one two three", stop=["three"])).json()["choices"][0]

    assert choice["message"]["content"].strip() == "one two"
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "three")


async def test_text_completions_answer_too(simulate):
    simulated = await simulate()
    body = {"model": "sim", "prompt": "a b c", "max_tokens": 2}
    whole = (await simulated.client.post("/v1/completions", json=body)).json()
    streamed = await simulated.client.post("/v1/completions", json=body | {"stream": True})

    assert whole["choices"][0]["text"] == "a b"
    assert "".join(event["choices"][0]["text"] for event in events(streamed.text)) == "a b"


async def test_the_request_id_names_the_response(simulate):
    simulated = await simulate()
    body = {"model": "sim", "messages": [{"role": "user", "content": "a"}]}
    response = await simulated.client.post("/v1/chat/completions", json=body, headers={"x-request-id": "abc"})

    assert response.json()["id"] == "chatcmpl-abc"


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"model": "nope"}, 404, "The model `nope` does not exist."),
        ({"max_tokens": 9000}, 400, "max_tokens=9000 cannot be greater than max_model_len=8192"),
        ({"max_tokens": 0}, 400, "max_tokens must be at least 1, got 0."),
        ({"max_tokens": "x"}, 400, "Input should be a valid integer"),
        ({"messages": []}, 400, "empty conversation"),
        ({"messages": "x"}, 400, "Input should be a valid list"),
        ({"n": 2}, 400, "leave n out"),
        ({"stream_options": {"include_usage": True}}, 400, "only be defined when `stream=True`"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, 400, "maximum context length is 8192 tokens"),
    ],
)
async def test_a_bad_request_is_told_what_is_wrong(simulate, fields, status, words):
    simulated = await simulate()
    body = {"model": "sim", "messages": [{"role": "user", "content": "a"}]} | fields
    response = await simulated.client.post("/v1/chat/completions", json=body)

    assert response.status_code == status
    assert words in response.json()["error"]["message"]
    assert response.json()["error"]["code"] == status


@pytest.mark.parametrize(
    ("content", "type_"), [(b'{"a', "application/json"), (b"{}", "text/plain"), (b"[]", "application/json")]
)
async def test_a_body_that_is_no_json_object_is_refused(simulate, content, type_):
    simulated = await simulate()
    response = await simulated.client.post("/v1/chat/completions", content=content, headers={"content-type": type_})

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "Bad Request"


async def test_a_client_that_leaves_frees_its_slot_with_the_next_step(simulate):
    simulated = await simulate(max_num_seqs=1)
    simulated.clock.auto = False
    async with simulated.open_stream(max_tokens=5000, ignore_eos=True) as response:
        for _ in range(20):
            await simulated.step()
        await anext(response.aiter_bytes())
        assert await simulated.metric("vllm:num_requests_running") == 1
    await simulated.until(lambda: simulated.engine.running[0].aborted)
    await simulated.step()

    assert await simulated.metric("vllm:num_requests_running") == 0
    assert await simulated.metric("vllm:kv_cache_usage_perc") == 0
    assert await simulated.metric("capstan_sim_aborted_requests_total") == 1
    assert await simulated.metric("vllm:request_success_total", finished_reason="abort") == 0  # as in vLLM


async def test_more_than_the_batch_waits_and_more_than_the_queue_gets_503(simulate):
    simulated = await simulate(max_num_seqs=1, sim_queue_limit=2)
    simulated.clock.auto = False
    async with simulated.open_stream(), simulated.open_stream():
        await simulated.until(lambda: simulated.engine.unfinished == 2)
        await simulated.step()

        assert await simulated.metric("vllm:num_requests_waiting") == 1
        assert await simulated.metric("vllm:num_requests_waiting_by_reason", reason="capacity") == 1
        refused = await simulated.chat()
        assert refused.status_code == 503
        assert refused.json()["error"]["type"] == "Service Unavailable"
        assert await simulated.metric("vllm:admission_rejections_total", reason="max_num_queued_reqs") == 1
        simulated.clock.release()
    await simulated.until(lambda: not simulated.engine.unfinished)
    assert (await simulated.chat()).status_code == 200


async def test_a_prompt_seen_before_answers_sooner(simulate):
    simulated = await simulate(sim_ttft_ms=0, sim_prefill_tokens_per_s=1000)
    await simulated.chat(LONG)
    first = await simulated.metric("vllm:time_to_first_token_seconds_sum")
    again = (await simulated.chat(LONG)).json()
    second = await simulated.metric("vllm:time_to_first_token_seconds_sum") - first

    assert second < first / 5
    cached = again["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= 192
    assert await simulated.metric("vllm:prefix_cache_hits_total") == cached


async def test_metrics_count_what_was_done(simulate):
    simulated = await simulate()
    await simulated.chat("a b c")
    usage = (await simulated.chat("a b c", max_tokens=2)).json()["usage"]

    assert await simulated.metric("vllm:generation_tokens_total") == 5
    assert await simulated.metric("vllm:prompt_tokens_total") == 2 * usage["prompt_tokens"]
    assert await simulated.metric("vllm:request_success_total", finished_reason="stop") == 1
    assert await simulated.metric("vllm:request_success_total", finished_reason="length") == 1
    assert await simulated.metric("vllm:e2e_request_latency_seconds_count") == 2
    assert await simulated.metric("vllm:inter_token_latency_seconds_count") == 3
    assert await simulated.metric("vllm:request_queue_time_seconds_count") == 2


async def test_adapters_come_and_go(simulate, tmp_path):
    simulated = await simulate(lora_slots=1)
    (tmp_path / "adapter_config.json").write_text("{}")
    adapter = {"lora_name": "fine", "lora_path": str(tmp_path)}
    assert (await simulated.chat(model="fine")).status_code == 404

    assert (await simulated.client.post("/v1/load_lora_adapter", json=adapter)).status_code == 200
    assert (await simulated.client.post("/v1/load_lora_adapter", json=adapter)).status_code == 400
    assert (await simulated.chat(model="fine")).json()["model"] == "fine"
    models = (await simulated.client.get("/v1/models")).json()["data"]
    assert [(model["id"], model["parent"]) for model in models] == [("sim", None), ("fine", "sim")]

    assert (await simulated.client.post("/v1/unload_lora_adapter", json=adapter)).status_code == 200
    assert (await simulated.chat(model="fine")).status_code == 404


async def test_a_missing_adapter_is_not_loaded(simulate):
    simulated = await simulate()
    body = {"lora_name": "a", "lora_path": "/no/such"}
    response = await simulated.client.post("/v1/load_lora_adapter", json=body)

    assert response.status_code == 404
    assert "No adapter found" in response.json()["error"]["message"]


async def test_tokenize_counts_what_a_completion_is_charged(simulate):
    simulated = await simulate()
    messages = [{"role": "user", "content": "a b c"}]
    counted = (await simulated.client.post("/tokenize", json={"model": "sim", "messages": messages})).json()

    assert (
        counted["count"] == len(counted["tokens"]) == (await simulated.chat("a b c")).json()["usage"]["prompt_tokens"]
    )


@pytest.mark.parametrize("path", ["/health", "/ping", "/load", "/version", "/metrics"])
async def test_operations_answer(simulate, path):
    assert (await (await simulate()).client.get(path)).status_code == 200


async def test_unknown_routes_and_methods_are_refused(simulate):
    simulated = await simulate()

    assert (await simulated.client.get("/nope")).status_code == 404
    assert (await simulated.client.get("/v1/chat/completions")).status_code == 405

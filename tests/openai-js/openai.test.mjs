// The `openai` client for JavaScript against a gateway over a real vLLM. Run by tests/test_openai_compatibility.py.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const url = process.env.CAPSTAN_URL;
const model = "smollm2-135m";
const options = { baseURL: `${url}/v1`, apiKey: process.env.CAPSTAN_KEY, maxRetries: 0, timeout: 60_000 };
const client = new OpenAI(options);

const messages = [{ role: "user", content: "Say hello." }];
const weather = [{ role: "user", content: "What is the weather in Paris?" }];
const schema = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};
const tool = {
  type: "function",
  function: { name: "get_weather", description: "Weather of a city", parameters: schema, strict: true },
};
const flatTool = { type: "function", name: "get_weather", parameters: schema, strict: true };
// Minutes of work: whatever ends sooner was aborted.
const long = { messages, max_tokens: 7000, ignore_eos: true };

const fits = (json) => assert.ok(["Paris", "Rome"].includes(JSON.parse(json).city), json);
const chat = (body, ...rest) => client.chat.completions.create({ model, messages, ...body }, ...rest);

async function all(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

/** Wait until the worker generates for `count` requests. */
async function workerRuns(count) {
  const signal = AbortSignal.timeout(10_000);
  for (;;) {
    const metrics = await (await fetch(`${process.env.CAPSTAN_WORKER_URL}/metrics`, { signal })).text();
    const found = [...metrics.matchAll(/^vllm:num_requests_running\{.*\} (\S+)$/gm)];
    if (found.reduce((sum, [, value]) => sum + Number(value), 0) === count) return;
  }
}

test("models are listed and found by name", async () => {
  const names = (await all(client.models.list())).map((found) => found.id);
  assert.ok(names.includes(model));
  assert.equal((await client.models.retrieve(model)).id, model);
  await assert.rejects(client.models.retrieve("gpt-4"), OpenAI.NotFoundError);
});

test("chat", async () => {
  const answer = await chat({ max_completion_tokens: 4, temperature: 0 });
  assert.ok(answer.choices[0].message.content);
  assert.equal(answer.choices[0].finish_reason, "length");
  assert.equal(answer.usage.completion_tokens, 4);
});

test("a stream tells usage only to those who ask", async () => {
  const body = { max_tokens: 6, temperature: 0 };
  const whole = await chat(body);
  for (const asked of [undefined, false, true]) {
    const extra = asked === undefined ? {} : { stream_options: { include_usage: asked } };
    const chunks = await all(chat({ ...body, stream: true, ...extra }));
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(chunks.filter((chunk) => chunk.usage).length, asked ? 1 : 0);
    if (asked) assert.equal(chunks.at(-1).usage.total_tokens, whole.usage.total_tokens);
    else assert.equal(chunks.at(-1).choices[0].finish_reason, "length");
  }
});

test("several choices", async () => {
  const answer = await chat({ n: 2, max_tokens: 4 });
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
  const chunks = await all(chat({ n: 2, max_tokens: 4, stream: true }));
  const indices = new Set(chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.index)));
  assert.deepEqual([...indices].sort(), [0, 1]);
});

test("stop, seed and logprobs", async () => {
  const free = (await chat({ max_tokens: 20, temperature: 0 })).choices[0].message.content;
  const stopped = (await chat({ max_tokens: 20, temperature: 0, stop: [free[3]] })).choices[0];
  assert.equal(stopped.finish_reason, "stop");
  assert.equal(stopped.message.content, free.slice(0, free.indexOf(free[3])));

  const seeded = (seed) => chat({ messages: weather, max_tokens: 12, temperature: 1, seed });
  const texts = (await Promise.all([seeded(1), seeded(1)])).map((answer) => answer.choices[0].message.content);
  assert.equal(texts[0], texts[1]);

  const { logprobs } = (await chat({ max_tokens: 2, logprobs: true, top_logprobs: 3 })).choices[0];
  assert.deepEqual(logprobs.content.map((token) => token.top_logprobs.length), [3, 3]);
});

test("completions", async () => {
  const body = { model, prompt: "The pipe", max_tokens: 4, temperature: 0 };
  const whole = await client.completions.create(body);
  const chunks = await all(client.completions.create({ ...body, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), whole.choices[0].text);
  const echoed = await client.completions.create({ ...body, echo: true, logprobs: 1 });
  assert.ok(echoed.choices[0].text.startsWith("The pipe"));
  assert.ok(echoed.choices[0].logprobs.tokens.length > 4);
});

for (const choice of ["required", { type: "function", function: { name: "get_weather" } }]) {
  const body = { messages: weather, tools: [tool], tool_choice: choice, max_tokens: 128, temperature: 0 };
  const name = typeof choice === "string" ? choice : "named";

  test(`a tool is called by its schema: ${name}`, async () => {
    const [call] = (await chat(body)).choices[0].message.tool_calls;
    assert.equal(call.function.name, "get_weather");
    fits(call.function.arguments);
  });

  test(`a tool call comes in pieces: ${name}`, async () => {
    const stream = client.chat.completions.stream({ model, ...body });
    let pieces = 0;
    stream.on("tool_calls.function.arguments.delta", () => pieces++);
    const [call] = (await stream.finalChatCompletion()).choices[0].message.tool_calls;
    assert.ok(pieces > 1);
    assert.equal(call.function.name, "get_weather");
    fits(call.function.arguments);
  });
}

test("a model that may call a tool answers well-formed", async () => {
  const body = { messages: weather, tools: [tool], tool_choice: "auto", max_tokens: 64 };
  const [choice] = (await chat(body)).choices;
  assert.ok(["stop", "length", "tool_calls"].includes(choice.finish_reason));
  assert.ok(choice.message.content || choice.message.tool_calls.length);
  const deltas = (await all(chat({ ...body, stream: true }))).map((chunk) => chunk.choices[0].delta);
  assert.ok(deltas.some((delta) => delta.content || delta.tool_calls));
});

test("a tool's result goes back", async () => {
  const asked = await chat({ messages: weather, tools: [tool], tool_choice: "required", max_tokens: 128 });
  const { message } = asked.choices[0];
  const results = message.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: "sunny" }));
  const answer = await chat({ messages: [...weather, message, ...results], tools: [tool], max_tokens: 8 });
  assert.ok(answer.usage.prompt_tokens > asked.usage.prompt_tokens);
});

test("JSON, by schema and by vLLM's own structured outputs", async () => {
  const object = await chat({
    messages: [{ role: "user", content: 'Write the JSON {"a": 1}.' }],
    response_format: { type: "json_object" },
    max_tokens: 128,
    temperature: 0,
  });
  assert.equal(typeof JSON.parse(object.choices[0].message.content), "object");

  const format = { type: "json_schema", json_schema: { name: "weather", schema, strict: true } };
  const body = { messages: weather, response_format: format, max_tokens: 128, temperature: 0 };
  fits((await chat(body)).choices[0].message.content);
  const chunks = await all(chat({ ...body, stream: true }));
  fits(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""));

  const chosen = await chat({ max_tokens: 8, structured_outputs: { choice: ["yes", "no"] } });
  assert.match(chosen.choices[0].message.content, /^(yes|no)$/);
  const digits = await chat({ max_tokens: 8, structured_outputs: { regex: "[0-9]{3}" } });
  assert.match(digits.choices[0].message.content, /^[0-9]{3}$/);
});

test("responses", async () => {
  const body = { model, input: "Say hello.", max_output_tokens: 4, temperature: 0 };
  const whole = await client.responses.create(body);
  assert.ok(whole.output_text);
  assert.equal(whole.usage.output_tokens, 4);

  const events = await all(client.responses.create({ ...body, stream: true }));
  assert.equal(events[0].type, "response.created");
  assert.equal(events.at(-1).type, "response.completed");
  assert.equal(events.at(-1).response.usage.output_tokens, 4);
  const deltas = events.filter((event) => event.type === "response.output_text.delta");
  assert.equal(deltas.map((event) => event.delta).join(""), whole.output_text);
});

test("responses by schema and with tools", async () => {
  const format = { type: "json_schema", name: "weather", schema, strict: true };
  const body = { model, input: weather, max_output_tokens: 128, temperature: 0 };
  fits((await client.responses.create({ ...body, text: { format } })).output_text);

  const [call] = (await client.responses.create({ ...body, tools: [flatTool], tool_choice: "required" })).output;
  assert.deepEqual([call.type, call.name], ["function_call", "get_weather"]);
  fits(call.arguments);
  const streamed = client.responses.stream({ ...body, tools: [flatTool], tool_choice: "required" });
  fits((await streamed.finalResponse()).output[0].arguments);
});

test("messages, in Anthropic's shape", async () => {
  const answer = await client.post("/messages", { body: { model, messages, max_tokens: 4 } });
  assert.equal(answer.type, "message");
  assert.equal(answer.usage.output_tokens, 4);
});

test("embeddings and rerank", async () => {
  const vectors = await client.embeddings.create({ model: "embedder", input: ["one", "two"] });
  assert.deepEqual(vectors.data.map((item) => [...item.embedding]), [[0.25, -0.5, 1], [0.25, -0.5, 1]]);
  await assert.rejects(client.embeddings.create({ model, input: "one" }), OpenAI.NotFoundError);

  const documents = ["The sun is a star.", "A pipe is a unidirectional data channel between processes."];
  const body = { model: "reranker", query: "What does a pipe do between processes?", documents };
  const { results } = await client.post("/rerank", { body });
  assert.deepEqual(results.map((result) => result.index), [1, 0]);
});

test("the client's errors", async () => {
  const stranger = new OpenAI({ ...options, apiKey: "usual.wrong" });
  await assert.rejects(stranger.models.list(), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "invalid_api_key");
    return true;
  });
  await assert.rejects(chat({ model: "gpt-4" }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.deepEqual([error.code, error.param], ["model_not_found", "model"]);
    assert.ok(error.requestID);
    return true;
  });
  await assert.rejects(chat({ temperature: 5 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.param, error.type], ["temperature", "BadRequestError"]);
    return true;
  });
});

test("every answer has a request id", async () => {
  const first = await chat({ max_tokens: 1 });
  const second = await chat({ max_tokens: 1 }, { headers: { "x-request-id": "my-own-id" } });
  assert.ok(first._request_id);
  assert.equal(second._request_id, "my-own-id");
});

test("leaving a stream frees the worker", async () => {
  const stream = await chat({ ...long, stream: true });
  for await (const chunk of stream) if (chunk.choices[0].delta.content) break; // leaving the loop aborts
  await workerRuns(0);
});

for (const stream of [false, true]) {
  test(`an abort frees the worker: ${stream ? "streamed" : "whole"}`, async () => {
    const controller = new AbortController();
    const answer = chat({ ...long, stream }, { signal: controller.signal });
    // A stream that has begun just ends; one that has not is rejected, as a whole answer is.
    const rejected = (error) => assert.ok(error instanceof OpenAI.APIUserAbortError, error);
    const ended = stream ? all(answer).catch(rejected) : assert.rejects(answer, OpenAI.APIUserAbortError);
    await workerRuns(1);
    controller.abort();
    await ended;
    await workerRuns(0);
  });
}

test("a timeout of the client frees the worker", async () => {
  await assert.rejects(chat(long, { timeout: 1000 }), OpenAI.APIConnectionTimeoutError);
  await workerRuns(0);
});

test("the client waits out an overload", async () => {
  const statuses = [];
  const watched = async (...request) => {
    const answer = await fetch(...request);
    statuses.push(answer.status);
    if (answer.status === 503) stream.controller.abort();
    return answer;
  };
  const stream = await chat({ model: "narrow", ...long, stream: true });
  const patient = new OpenAI({ ...options, maxRetries: 3, fetch: watched });
  await patient.chat.completions.create({ model: "narrow", messages, max_tokens: 1 });
  assert.deepEqual(statuses, [503, 200]);
});

test("the client waits out a quota", async () => {
  const statuses = [];
  const watched = async (...request) => {
    const answer = await fetch(...request);
    statuses.push(answer.status);
    return answer;
  };
  const hasty = { ...options, apiKey: process.env.CAPSTAN_HASTY_KEY, fetch: watched };
  const request = { model: "embedder", input: "one" };
  const impatient = new OpenAI(hasty);
  const exhaust = async () => {
    for (let i = 0; i < 100; i++) await impatient.embeddings.create(request);
  };
  await assert.rejects(exhaust, OpenAI.RateLimitError);
  statuses.length = 0;
  await new OpenAI({ ...hasty, maxRetries: 1 }).embeddings.create(request);
  // Had it come back before the time it was told, it would have been refused again.
  assert.deepEqual(statuses, [429, 200]);
});

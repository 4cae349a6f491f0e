// The one way to the server: same-origin paths, the key in a header, errors as sentences.
import { currentKey, keyRejected } from "./key.js";

/** What the server said was wrong, or why it could not be reached. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

const WORDS = {
  429: "Too many requests for this key",
  502: "The answer broke off",
  503: "The service is busy or starting",
  504: "The service took too long",
};

export function errorFrom(status, text, retryAfter) {
  let detail = {};
  try {
    detail = JSON.parse(text).error ?? {};
  } catch {
    // Not ours: a proxy's page. The status has to do.
  }
  let message = detail.message ?? WORDS[status] ?? `The server answered with status ${status}`;
  if (retryAfter) message += ` – try again in ${retryAfter} s`;
  return new ApiError(message, { status, code: detail.code, retryAfter });
}

/** A response that is fine, or an `ApiError`. An abort passes through as it is. */
async function send(path, { method = "GET", body, signal } = {}) {
  const key = await currentKey();
  const headers = { authorization: `Bearer ${key}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is the stack running?");
  }
  if (response.ok) return response;
  const error = errorFrom(response.status, await response.text(), response.headers.get("retry-after"));
  if (error.status === 401) keyRejected(key);
  throw error;
}

/** JSON from a path; `null` where the answer has no body. */
export async function call(path, options) {
  const response = await send(path, options);
  return response.status === 204 ? null : response.json();
}

/** The chunks of a streamed chat completion. Throws `ApiError` when it fails or ends early. */
export async function* chat(body, signal) {
  const response = await send("/v1/chat/completions", { method: "POST", body: { ...body, stream: true }, signal });
  let finished = false;
  for await (const data of events(response)) {
    if (data === "[DONE]") {
      finished = true;
      continue;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message, { code: chunk.error.code });
    yield chunk;
  }
  if (!finished) throw new ApiError("The answer broke off before its end.");
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer = (buffer + value).replaceAll("\r\n", "\n");
      for (let end = buffer.indexOf("\n\n"); end >= 0; end = buffer.indexOf("\n\n")) {
        const lines = buffer.slice(0, end).split("\n").filter((line) => line.startsWith("data:"));
        buffer = buffer.slice(end + 2);
        if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Ids hold slashes, and slashes stay: the API takes the rest of the path. */
export const pathOf = (id) => id.split("/").map(encodeURIComponent).join("/");

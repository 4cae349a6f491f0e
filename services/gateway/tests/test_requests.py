"""What a client sees of the request path."""

from typing import Any

import orjson
import pytest
from fake_upstream import FakeUpstream, reply

from capstan.common.identity import Identity, Signer


async def test_a_completion_passes_through_and_is_metered(gateway: Any) -> None:
    setup = await gateway()
    response = await setup.chat()
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "hi"
    assert await setup.metric('capstan_gateway_tokens_total{model="m",tenant="acme",type="input"}') == 5
    assert await setup.metric('capstan_gateway_tokens_total{model="m",tenant="acme",type="output"}') == 7
    assert await setup.metric('capstan_gateway_requests_total{model="m",outcome="completed",tenant="acme"}') == 1


async def test_the_upstream_gets_the_clients_bytes_but_not_its_key(gateway: Any) -> None:
    setup = await gateway()
    response = await setup.chat(temperature=0.25, custom_field={"kept": True})
    sent = setup.upstream.requests[0]
    assert sent["body"]["custom_field"] == {"kept": True}
    assert "authorization" not in sent["headers"]
    assert "x-capstan-identity" not in sent["headers"]
    assert sent["headers"]["x-request-id"] == response.headers["x-request-id"]


async def test_an_internal_pool_gets_a_signed_identity_and_is_not_metered(
    gateway: Any, identity_secret: str, auth: dict[str, str]
) -> None:
    setup = await gateway(pool={"kind": "capstan"})
    forged = {"x-capstan-identity": "forged", **auth}
    assert (await setup.chat(headers=forged)).status_code == 200
    token = setup.upstream.requests[0]["headers"]["x-capstan-identity"]
    assert Signer(identity_secret).verify(token).tenant == "acme"
    assert await setup.metric("capstan_gateway_tokens_total{") == 0


async def test_a_request_id_is_kept_if_sane_and_replaced_if_not(gateway: Any, auth: dict[str, str]) -> None:
    setup = await gateway()
    kept = await setup.chat(headers={**auth, "x-request-id": "abc-123"})
    replaced = await setup.chat(headers={**auth, "x-request-id": "x" * 500})
    assert kept.headers["x-request-id"] == "abc-123"
    assert replaced.headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        (b"{not json", 400, "invalid_request", "not valid JSON"),
        (b"[1]", 400, "invalid_request", "JSON object"),
        (b'{"messages": []}', 400, "invalid_request", "'model'"),
        (b'{"model": "nope"}', 404, "model_not_found", "m, other"),
        (b'{"model": "m", "stream": "yes"}', 400, "invalid_request", "'stream'"),
        (b'{"model": "m", "max_tokens": 0}', 400, "invalid_request", "'max_tokens'"),
        (b'{"model": "m", "max_tokens": true}', 400, "invalid_request", "'max_tokens'"),
        (b'{"model": "m", "stream": true, "stream_options": 3}', 400, "invalid_request", "'stream_options'"),
    ],
)
async def test_a_bad_body_gets_an_openai_shaped_error(
    gateway: Any, auth: dict[str, str], body: bytes, status: int, code: str, says: str
) -> None:
    setup = await gateway()
    response = await setup.client.post("/v1/chat/completions", content=body, headers=auth)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert says in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert not setup.upstream.requests


async def test_a_body_is_counted_as_it_streams(gateway: Any, auth: dict[str, str]) -> None:
    setup = await gateway(max_body_bytes=1000)

    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 100

    response = await setup.client.post("/v1/chat/completions", content=endless(), headers=auth)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"
    assert "1000 bytes" in response.json()["error"]["message"]


async def test_an_upstream_rejection_passes_through(gateway: Any) -> None:
    setup = await gateway()
    problem = {"error": {"message": "maximum context length is 2048", "type": "BadRequestError", "code": 400}}

    async def reject(_: Any, send: Any) -> None:
        await reply(send, 400, orjson.dumps(problem))

    setup.upstream.behave = reject
    response = await setup.chat()
    assert (response.status_code, response.json()) == (400, problem)
    assert await setup.metric('capstan_gateway_requests_total{model="m",outcome="upstream_rejected"') == 1


async def test_an_upstream_that_is_down_is_named(gateway: Any) -> None:
    setup = await gateway(urls=["http://127.0.0.1:9"])
    response = await setup.chat()
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "no_healthy_upstream"
    assert "127.0.0.1:9" in response.json()["error"]["message"]
    assert int(response.headers["retry-after"]) > 0


async def test_a_request_goes_to_the_other_upstream_when_one_is_down(gateway: Any, serve: Any) -> None:
    alive = FakeUpstream()
    setup = await gateway(urls=["http://127.0.0.1:9", await serve(alive)], probe_interval_s=60)
    statuses = [(await setup.chat()).status_code for _ in range(4)]
    assert statuses == [200] * 4
    assert len(alive.requests) == 4


async def test_a_tenant_of_the_documents_alone_gets_their_model_inside(
    gateway: Any, auth: dict[str, str], identity_secret: str
) -> None:
    setup = await gateway(tenant={"models": ["other"]})
    assert (await setup.chat()).status_code == 403
    token = Signer(identity_secret).sign(Identity("acme", "generator"))
    assert (await setup.chat(headers={"x-capstan-identity": token})).status_code == 200
    assert (await setup.client.get("/v1/models/m", headers=auth)).status_code == 403


async def test_the_models_of_a_key(gateway: Any, auth: dict[str, str]) -> None:
    setup = await gateway(tenant={"models": ["m"]})
    listed = await setup.client.get("/v1/models", headers=auth)
    assert [model["id"] for model in listed.json()["data"]] == ["m"]
    refused = await setup.chat(model="other")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert (await setup.client.get("/v1/models")).status_code == 401
    assert (await setup.client.get("/v1/nothing")).json()["error"]["code"] == "not_found"

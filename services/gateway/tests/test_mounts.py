"""Mounts: what passes to a service behind the gateway and what does not, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fake_service import Service
from faults.rest import until
from faults.wire import WireClient
from test_tracing import TRACE

from capstan.common.identity import Identity, Signer


@pytest.fixture
async def mounted(gateway: Any, serve: Any) -> Any:
    """A gateway with `/v1/documents*` and the public `/` and `/assets/*`, all on one service."""

    async def start(url: str | None = None, tenant: dict[str, Any] | None = None, **mount: Any) -> Any:
        service = Service()
        url = url or await serve(service)
        mounts = [
            {"path": "/v1/documents*", "url": url, **mount},
            {"path": "/", "url": url, "public": True},
            {"path": "/assets/*", "url": url, "public": True},
        ]
        setup = await gateway(mounts=mounts, tenant=tenant)
        setup.service = service
        return setup

    return start


async def test_a_key_becomes_the_tenants_signed_identity(
    mounted: Any, auth: dict[str, str], identity_secret: str
) -> None:
    setup = await mounted()
    forged = {"x-capstan-identity": "forged", "cookie": "a=1", "x-forwarded-for": "1.2.3.4", "accept": "text/x"}
    response = await setup.client.get("/v1/documents?limit=2&x=%2F", headers={**auth, **forged})
    assert (response.status_code, response.text) == (200, "hello")
    (request,) = setup.service.requests
    headers = request["headers"]
    identity = Signer(identity_secret).verify(headers["x-capstan-identity"])
    assert identity == Identity("acme", "gateway")
    assert (request["path"], request["query"], headers["accept"]) == (b"/v1/documents", b"limit=2&x=%2F", "text/x")
    assert not {"authorization", "x-api-key", "cookie", "x-forwarded-for"} & set(headers)


async def test_the_other_header_for_a_key_does_not_pass_either(mounted: Any, auth: dict[str, str]) -> None:
    setup = await mounted()
    key = auth["authorization"].removeprefix("Bearer ")
    assert (await setup.client.get("/v1/documents", headers={"x-api-key": key})).status_code == 200
    assert key not in str(setup.service.requests)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer acme-1.wrong"}, {"x-capstan-identity": "forged"}])
async def test_without_a_key_nothing_passes(mounted: Any, headers: dict[str, str]) -> None:
    setup = await mounted()
    response = await setup.client.post("/v1/documents", json={}, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert not setup.service.requests


@pytest.mark.parametrize("path", ["/", "/assets/app.js"])
async def test_a_public_path_needs_no_key_and_sends_none_on(mounted: Any, auth: dict[str, str], path: str) -> None:
    setup = await mounted()
    assert (await setup.client.get(path)).text == "hello"
    assert (await setup.client.head(path, headers=auth)).text == ""
    assert [request["method"] for request in setup.service.requests] == ["GET", "HEAD"]
    assert not {"authorization", "x-capstan-identity"} & set(setup.service.requests[1]["headers"])
    refused = await setup.client.post(path, headers=auth)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def test_methods_and_bodies_pass(mounted: Any, auth: dict[str, str], method: str) -> None:
    setup = await mounted()
    body = b"" if method in ("GET", "HEAD") else b"some bytes \xff"
    response = await setup.client.request(method, "/v1/documents/a", content=body, headers=auth)
    assert response.status_code == 200
    (request,) = setup.service.requests
    assert (request["method"], request["body"]) == (method, body)


async def test_other_methods_do_not(mounted: Any, auth: dict[str, str]) -> None:
    setup = await mounted()
    response = await setup.client.request("TRACE", "/v1/documents", headers=auth)
    assert (response.status_code, response.json()["error"]["code"]) == (405, "method_not_allowed")
    assert not setup.service.requests


@pytest.mark.parametrize(
    "path",
    ["/v1/documents/git%2Fadd%20x", "/v1/documents/https:%2F%2Fx%2Fy", "/v1/documents/%C3%A9", "/v1/documents//a//b/"],
)
async def test_a_path_arrives_as_it_was_sent(mounted: Any, auth: dict[str, str], path: str) -> None:
    setup = await mounted()
    client = await WireClient.connect(setup.url)
    await client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {auth['authorization']}\r\n\r\n".encode())
    await client.read_until(b"hello")
    client.leave()
    assert setup.service.requests[0]["path"] == path.encode()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/documents/../../metrics",
        "/v1/documents/%2e%2e/%2E%2E/metrics",
        "/v1/documents/..%2f..%2fmetrics",
        "/v1/documents/..%5C..%5Cmetrics",
        "/v1/documents//../x",
        "/assets/./x",
        "/assets/%00",
    ],
)
async def test_a_path_that_could_mean_another_one_is_refused(mounted: Any, auth: dict[str, str], path: str) -> None:
    setup = await mounted()
    client = await WireClient.connect(setup.url)
    await client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {auth['authorization']}\r\n\r\n".encode())
    await client.read_until(b"invalid_request")
    client.leave()
    assert not setup.service.requests


async def test_what_is_not_mounted_stays_the_gateways(mounted: Any, auth: dict[str, str]) -> None:
    setup = await mounted()
    assert (await setup.client.get("/v1/models", headers=auth)).json()["object"] == "list"
    assert (await setup.client.get("/healthz")).json() == {"status": "ok"}
    assert (await setup.client.get("/elsewhere", headers=auth)).status_code == 404
    assert (await setup.client.get("/assets", headers=auth)).status_code == 404
    assert not setup.service.requests


async def test_an_upload_is_streamed(mounted: Any, auth: dict[str, str]) -> None:
    setup = await mounted(max_body_bytes=10_000_000)
    piece = b"x" * 1_000_000

    async def body() -> AsyncIterator[bytes]:
        yield piece
        await until(lambda: setup.service.received >= len(piece))  # the service has it before the rest is sent
        for _ in range(5):
            yield piece

    response = await setup.client.post("/v1/documents", content=body(), headers=auth)
    assert (response.status_code, setup.service.received) == (200, 6_000_000)


async def test_a_download_is_streamed_and_stays_compressed(mounted: Any, auth: dict[str, str]) -> None:
    setup = await mounted()
    setup.service.headers += [(b"content-encoding", b"gzip"), (b"connection", b"x-hop"), (b"x-hop", b"1")]
    setup.service.pieces = [b"\x1f\x8b not really"]
    setup.service.go_on.clear()
    async with setup.client.stream("GET", "/v1/documents", headers=auth) as response:
        raw = response.aiter_raw()
        assert await anext(raw) == b"\x1f\x8b not really"  # while the service still holds the rest
        assert response.headers["content-encoding"] == "gzip"
        assert "x-hop" not in response.headers
        setup.service.go_on.set()
        assert [piece async for piece in raw] == []


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_past_the_limit_is_refused(mounted: Any, auth: dict[str, str], announced: bool) -> None:
    setup = await mounted(max_body_bytes=1000)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 500

    content = b"x" * 1500 if announced else body()
    response = await setup.client.post("/v1/documents", content=content, headers=auth)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
    assert all(len(request["body"]) <= 1000 for request in setup.service.requests)
    if not announced:
        await asyncio.wait_for(setup.service.disconnected.wait(), 2)


async def test_a_mounts_limit_may_be_above_that_of_model_requests(
    gateway: Any, serve: Any, auth: dict[str, str]
) -> None:
    service = Service()
    mount = {"path": "/v1/files", "url": await serve(service), "max_body_bytes": 5000}
    setup = await gateway(mounts=[mount], max_body_bytes=1000)
    assert (await setup.client.post("/v1/files", content=b"x" * 5000, headers=auth)).status_code == 200
    assert (await setup.client.post("/v1/files", content=b"x" * 5001, headers=auth)).status_code == 413


async def test_the_services_errors_pass_as_they_are(mounted: Any, auth: dict[str, str]) -> None:
    setup = await mounted()
    setup.service.status, setup.service.pieces = 422, [b'{"error": {"message": "it is encrypted"}}']
    response = await setup.client.post("/v1/documents", content=b"x", headers=auth)
    assert (response.status_code, response.json()["error"]["message"]) == (422, "it is encrypted")


async def test_a_service_that_is_down(mounted: Any, auth: dict[str, str]) -> None:
    setup = await mounted(url="http://127.0.0.1:9")
    response = await setup.client.get("/v1/documents", headers=auth)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "no_healthy_upstream")
    assert "/v1/documents*" in response.json()["error"]["message"]
    assert "retry-after" in response.headers


async def test_a_service_that_dies_before_its_answer(mounted: Any, auth: dict[str, str], raw_dying: str) -> None:
    setup = await mounted(url=raw_dying)
    for method in ("GET", "POST"):
        response = await setup.client.request(method, "/v1/documents", headers=auth)
        assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_died")


@pytest.fixture
async def raw_dying() -> AsyncIterator[str]:
    """An address whose connections are closed as soon as a request comes."""

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(die, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def test_a_service_that_is_silent(mounted: Any, auth: dict[str, str]) -> None:
    setup = await mounted(timeout_s=0.05)
    setup.service.silent = True
    response = await setup.client.get("/v1/documents", headers=auth)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")
    await asyncio.wait_for(setup.service.disconnected.wait(), 2)


async def test_an_answer_that_breaks_off_does_not_look_whole(mounted: Any, auth: dict[str, str]) -> None:
    setup = await mounted()
    setup.service.breaks = True
    with pytest.raises(httpx2.RemoteProtocolError):
        await setup.client.get("/v1/documents", headers=auth)


@pytest.mark.parametrize("phase", ["in its body", "before the answer's end"])
async def test_a_client_that_leaves_ends_the_services_work(mounted: Any, auth: dict[str, str], phase: str) -> None:
    setup = await mounted()
    setup.service.go_on.clear()
    client = await WireClient.connect(setup.url)
    length = 100 if phase == "in its body" else 1
    head = f"POST /v1/documents HTTP/1.1\r\nhost: x\r\nauthorization: {auth['authorization']}\r\n"
    await client.send(f"{head}content-length: {length}\r\n\r\nx".encode())
    if phase == "in its body":
        await until(lambda: setup.service.received == 1)
    else:
        await client.read_until(b"hello")
    client.leave()
    await asyncio.wait_for(setup.service.disconnected.wait(), 2)
    await until(lambda: setup.gateway._mounts.active == 0)
    assert setup.gateway._quota._states["acme"].running == 0


async def test_a_request_counts_for_the_tenants_quota_and_its_place_comes_back(
    mounted: Any, auth: dict[str, str]
) -> None:
    setup = await mounted(tenant={"requests_per_minute": 2, "max_concurrent": 1})
    for _ in range(2):
        assert (await setup.client.get("/v1/documents", headers=auth)).status_code == 200
    refused = await setup.client.get("/v1/documents", headers=auth)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "request_quota_exceeded")
    assert len(setup.service.requests) == 2
    assert (await setup.client.get("/")).status_code == 200  # nobody's quota
    assert (await setup.chat()).json()["error"]["code"] == "request_quota_exceeded"


async def test_requests_are_counted_by_mount_and_status(mounted: Any, auth: dict[str, str]) -> None:
    setup = await mounted()
    response = await setup.client.get("/v1/documents/a", headers={**auth, "x-request-id": "mine"})
    assert response.headers.get_list("x-request-id") == ["mine"]
    assert setup.service.requests[0]["headers"]["x-request-id"] == "mine"
    await setup.client.get("/v1/documents/b")
    start = 'capstan_http_requests_total{method="GET",route="/v1/documents*",service="gateway",status='
    assert await setup.metric(f'{start}"200"') == 1
    assert await setup.metric(f'{start}"401"') == 1


async def test_the_clients_trace_goes_on(mounted: Any, auth: dict[str, str]) -> None:
    setup = await mounted()
    parent = f"00-{TRACE}-b7ad6b7169203331-00"
    await setup.client.get("/v1/documents", headers={**auth, "traceparent": parent})
    assert setup.service.requests[0]["headers"]["traceparent"] == parent


async def test_the_longest_mount_serves(gateway: Any, serve: Any, auth: dict[str, str]) -> None:
    services = {path: Service() for path in ("/v1/a*", "/v1/a/b*", "/v1/a/b/exact")}
    mounts = [{"path": path, "url": await serve(service)} for path, service in services.items()]
    setup = await gateway(mounts=mounts)
    for path in ("/v1/a", "/v1/a/x", "/v1/a/bc", "/v1/a/b/exact", "/v1/a/b/exact/x"):
        assert (await setup.client.get(path, headers=auth)).status_code == 200
    seen = {path: [r["path"] for r in service.requests] for path, service in services.items()}
    assert seen == {
        "/v1/a*": [b"/v1/a", b"/v1/a/x"],
        "/v1/a/b*": [b"/v1/a/bc", b"/v1/a/b/exact/x"],
        "/v1/a/b/exact": [b"/v1/a/b/exact"],
    }

"""The frame of a service, over real sockets and in a real process."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends
from prometheus_client import CollectorRegistry
from prometheus_client import parser as plain_text
from prometheus_client.openmetrics import parser as openmetrics
from pydantic import BaseModel

from capstan.common.app import create_app, require_identity
from capstan.common.errors import ApiError
from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.common.settings import ServiceSettings


class Item(BaseModel):
    name: str


class State:
    waiting_for: str | None = None


@pytest.fixture
async def client(serve: Any, identity_secret: str) -> Any:
    settings = ServiceSettings(identity_secret=identity_secret)
    state = State()
    app = create_app(
        "probe",
        settings=settings,
        ready=lambda: state.waiting_for,
        registry=CollectorRegistry(),
        max_body_bytes=100,
    )

    @app.post("/items")
    async def items(item: Item, identity: Annotated[Identity, Depends(require_identity)]) -> dict[str, str]:
        return {"name": item.name, "tenant": identity.tenant}

    @app.get("/broken/{kind}")
    async def broken(kind: str) -> None:
        if kind == "api":
            raise ApiError(503, "busy", "come back later", retry_after=1.2)
        raise RuntimeError("a bug")

    async with httpx2.AsyncClient(base_url=await serve(app), trust_env=False) as http:
        http.state = state  # type: ignore[attr-defined]
        yield http


async def test_readiness_says_what_it_waits_for(client: Any) -> None:
    assert (await client.get("/readyz")).status_code == 200
    client.state.waiting_for = "the index"
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["waiting_for"]) == (503, "the index")
    assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect"])
async def test_no_page_with_scripts_from_elsewhere_is_served(client: Any, path: str) -> None:
    assert (await client.get(path)).status_code == 404
    assert (await client.get("/openapi.json")).json()["info"]["title"] == "Capstan probe"


async def test_identity_is_required_and_passed(client: Any, identity_secret: str) -> None:
    refused = await client.post("/items", json={"name": "x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_identity")
    headers = {IDENTITY_HEADER: Signer(identity_secret).sign(Identity("acme", "gateway"))}
    accepted = await client.post("/items", json={"name": "x"}, headers=headers)
    assert accepted.json() == {"name": "x", "tenant": "acme"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"{}", 400, "invalid_request"),
        (b'{"name": "' + b"x" * 200 + b'"}', 413, "request_too_large"),
    ],
)
async def test_bad_bodies(client: Any, identity_secret: str, body: bytes, status: int, code: str) -> None:
    headers = {IDENTITY_HEADER: Signer(identity_secret).sign(Identity("acme", "gateway"))}
    headers["content-type"] = "application/json"
    response = await client.post("/items", content=body, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_errors_have_one_shape_and_bugs_tell_nothing(client: Any) -> None:
    busy = await client.get("/broken/api")
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "2")
    bug = await client.get("/broken/bug")
    assert (bug.status_code, bug.json()["error"]["code"]) == (500, "internal_error")
    assert "a bug" not in bug.text
    assert bug.headers["x-request-id"]
    counted = 'capstan_http_requests_total{method="GET",route="/broken/{kind}",service="probe",status="500"} 1.0'
    assert counted in (await client.get("/metrics")).text
    assert (await client.get("/nowhere")).json()["error"]["code"] == "not_found"
    assert (await client.get("/items")).json()["error"]["code"] == "method_not_allowed"


async def test_requests_are_counted_by_route(client: Any) -> None:
    await client.get("/broken/api")
    text = (await client.get("/metrics")).text
    expected = 'capstan_http_requests_total{method="GET",route="/broken/{kind}",service="probe",status="503"} 1.0'
    assert expected in text


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", "application/openmetrics-text"),
        ("text/plain", "text/plain"),
        ("*/*", "text/plain"),
    ],
)
async def test_metrics_come_in_the_format_that_the_scraper_takes(client: Any, accept: str, answered: str) -> None:
    await client.get("/broken/api")
    response = await client.get("/metrics", headers={"accept": accept})
    assert response.headers["content-type"].startswith(answered)
    is_open = answered == "application/openmetrics-text"
    parse = openmetrics if is_open else plain_text
    names = {sample.name for family in parse.text_string_to_metric_families(response.text) for sample in family.samples}
    assert {"capstan_http_requests_total", "capstan_http_request_seconds_bucket"} <= names
    assert not [name for name in names if name.endswith("_created")]
    assert response.text.endswith("# EOF\n") is is_open


PROGRAM = """
    import asyncio
    from fastapi.responses import StreamingResponse
    from prometheus_client import CollectorRegistry
    from capstan.common.app import create_app
    from capstan.common.logs import configure_logging
    from capstan.common.server import serve
    from capstan.common.settings import load, ServiceSettings
    settings = load(ServiceSettings)
    configure_logging("probe")
    app = create_app("probe", settings=settings, ready=lambda: None, registry=CollectorRegistry())
    @app.get("/slow")
    async def slow():
        async def pieces():
            yield b"begun "
            await asyncio.sleep(1)
            yield b"finished"
        return StreamingResponse(pieces())
    serve(app, host="127.0.0.1", port=PORT, port_setting="X", lifecycle=app.state.lifecycle, drain_s=10)
"""


def test_sigterm_finishes_running_streams_and_exits_0(
    tmp_path: Path, unused_tcp_port: int, identity_secret: str
) -> None:
    program = textwrap.dedent(PROGRAM).replace("PORT", str(unused_tcp_port))
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "CAPSTAN_IDENTITY_SECRET": identity_secret,
    }
    process = subprocess.Popen([sys.executable, "-c", program], env=environment)
    url = f"http://127.0.0.1:{unused_tcp_port}"
    try:
        with httpx2.Client(trust_env=False) as client:
            _wait_until_up(client, url)
            with client.stream("GET", f"{url}/slow") as response:
                pieces = response.iter_text()
                assert next(pieces) == "begun "
                process.send_signal(signal.SIGTERM)
                assert "".join(pieces) == "finished"
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()


def _wait_until_up(client: httpx2.Client, url: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            client.get(f"{url}/readyz")
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the server did not start")

"""Mounts: mistakes in the file, reload, drain and spans."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fake_service import Service
from fake_upstream import FakeUpstream
from faults.process import GatewayProcess
from faults.rest import until
from test_tracing import TRACE, Collector

from capstan.gateway.app import Gateway
from capstan.gateway.config import ConfigError, KeysFile, ModelsFile, read_models
from capstan.gateway.settings import GatewaySettings
from capstan.gateway.tenants import add_key


async def test_with_a_collector_a_mount_has_spans(
    serve: Any, tmp_path: Path, unused_tcp_port: int, identity_secret: str
) -> None:
    collector, service = Collector(), Service()
    url = await serve(service)
    (tmp_path / "models.yaml").write_text(
        f"pools: {{p: {{urls: ['{url}']}}}}\nmodels: {{m: {{pool: p}}}}\n"
        f"mounts: [{{path: /v1/documents*, url: '{url}'}}]\n"
    )
    key = add_key(tmp_path / "keys.yaml", "acme")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "CAPSTAN_IDENTITY_SECRET": identity_secret,
        "CAPSTAN_GATEWAY_PORT": str(unused_tcp_port),
        "CAPSTAN_GATEWAY_MODELS_FILE": str(tmp_path / "models.yaml"),
        "CAPSTAN_GATEWAY_KEYS_FILE": str(tmp_path / "keys.yaml"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": await serve(collector),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "capstan.gateway", env=environment)
    headers = {"authorization": f"Bearer {key}", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{unused_tcp_port}", trust_env=False) as client:

        async def up() -> bool:
            try:
                return (await client.get("/healthz")).status_code == 200
            except httpx2.TransportError:
                return False

        await until(up, 30)
        assert (await client.get("/v1/documents/secret-id", headers=headers)).status_code == 200
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    assert bytes.fromhex(TRACE) in collector.received
    assert b"mount GET /v1/documents*" in collector.received
    request = next(r for r in service.requests if r["path"].startswith(b"/v1/documents"))
    passed_on = request["headers"]["traceparent"].split("-")
    assert (passed_on[1], passed_on[2] != "b7ad6b7169203331") == (TRACE, True)


POOLS = {"pools": {"p": {"urls": ["http://x"]}}, "models": {"m": {"pool": "p"}}}


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/v1/models", "/v1/models"),
        ("/v1/*", "/v1/"),
        ("/*", "/"),
        ("/healthz", "/healthz"),
        ("/openapi.json", "/openapi.json"),
        ("/v1/embeddings", "/v1/embeddings"),
        ("/v1/models/mine", "/v1/models/{name}"),
        ("/v1/chat*", "/v1/chat/completions"),
        ("/admin/v1/tenants/acme*", "/admin/v1/tenants/{tenant}"),
    ],
)
def test_a_mount_that_would_shadow_the_gateway_is_a_mistake(path: str, own: str) -> None:
    file = ModelsFile.model_validate({**POOLS, "mounts": [{"path": path, "url": "http://x"}]})
    values = {"identity_secret": "x" * 32, "admin_key": "x" * 32, "models_file": "unread"}
    with pytest.raises(ConfigError, match=r"the mount '" + path.replace("*", r"\*")) as error:
        Gateway(GatewaySettings.model_validate(values), file, KeysFile())
    assert own in str(error.value)


@pytest.mark.parametrize(
    ("mounts", "says"),
    [
        ([{"path": "v1/x", "url": "http://x"}], "mounts.0.path"),
        ([{"path": "/a*/b", "url": "http://x"}], "mounts.0.path"),
        ([{"path": "/a/../b", "url": "http://x"}], "'..'"),
        ([{"path": "/a//b", "url": "http://x"}], "'//'"),
        ([{"path": "/a", "url": "http://x/y"}], "the path of a request is kept"),
        ([{"path": "/a", "url": "http://x"}, {"path": "/a", "url": "http://y"}], "twice"),
        ([{"path": "/a", "url": "http://x", "publik": True}], "publik"),
    ],
)
def test_mistakes_in_mounts_are_said(tmp_path: Path, mounts: list[Any], says: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump({**POOLS, "mounts": mounts}))
    with pytest.raises(ConfigError) as error:
        read_models(path)
    assert says in str(error.value)


async def test_a_reload_applies_mounts_and_a_drain_waits_for_them(
    serve: Any, tmp_path: Path, identity_secret: str
) -> None:
    upstream, service = FakeUpstream(), Service()
    service.go_on.clear()
    url = await serve(service)
    models: dict[str, Any] = {"pools": {"p": {"urls": [await serve(upstream)]}}, "models": {"m": {"pool": "p"}}}
    gateway = GatewayProcess(tmp_path, identity_secret, models)
    await gateway.start()
    try:
        assert (await gateway.client.get("/v1/documents")).status_code == 404
        gateway.write_models({**models, "mounts": [{"path": "/v1/documents*", "url": url}]})
        gateway.signal(signal.SIGHUP)
        await until(lambda: bool(gateway.logged('"reloaded"')))
        async with gateway.client.stream("GET", "/v1/documents") as response:
            raw = response.aiter_raw()
            assert await anext(raw) == b"hello"
            gateway.write_models({**models, "mounts": [{"path": "/v1/*", "url": url}]})
            gateway.signal(signal.SIGHUP)
            await until(lambda: bool(gateway.logged("reload refused")))
            assert "the mount '/v1/*'" in gateway.logged("reload refused")[0]
            gateway.signal(signal.SIGTERM)
            await until(lambda: _not_ready(gateway))
            service.go_on.set()
            assert [piece async for piece in raw] == []
        assert await gateway._process.wait() == 0
    finally:
        await gateway.client.aclose()
        await gateway.kill()


async def _not_ready(gateway: GatewayProcess) -> bool:
    try:
        return (await gateway.client.get("/readyz")).status_code == 503
    except httpx2.TransportError:
        return True

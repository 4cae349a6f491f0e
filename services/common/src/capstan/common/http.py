"""The HTTP client for calls between services and from jobs. The gateway's hot path has its own."""

import httpx2

from capstan.common.context import REQUEST_ID_HEADER, request_id
from capstan.common.telemetry import inject


async def _add_context(request: httpx2.Request) -> None:
    if rid := request_id.get():
        request.headers.setdefault(REQUEST_ID_HEADER, rid)
    carrier: dict[str, str] = {}
    inject(carrier)
    request.headers.update(carrier)


def service_client(base_url: str, *, timeout_s: float = 30.0, connect_s: float = 2.0) -> httpx2.AsyncClient:
    """A client that carries the request id and the trace context along. Timeouts are in seconds."""
    return httpx2.AsyncClient(
        base_url=base_url,
        timeout=httpx2.Timeout(timeout_s, connect=connect_s),
        limits=httpx2.Limits(max_connections=512, max_keepalive_connections=64),
        event_hooks={"request": [_add_context]},
        trust_env=False,
    )

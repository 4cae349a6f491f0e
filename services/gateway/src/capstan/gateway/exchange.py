"""One request and the client's end of it."""

from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from capstan.common.context import REQUEST_ID_HEADER
from capstan.gateway.metering import Record
from capstan.gateway.tap import StreamTap

Headers = list[tuple[bytes, bytes]]

REQUEST_ID = REQUEST_ID_HEADER.encode()


@dataclass(slots=True)
class Exchange:
    """One request and the client's end of it."""

    scope: Scope
    receive: Receive
    send: Send
    record: Record
    tap: StreamTap | None = None
    limit_headers: Headers | None = None
    started: bool = False

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers, with the request's id and the tenant's limits."""
        self.started = True
        self.record.status = status
        identified = [*headers, *(self.limit_headers or []), (REQUEST_ID, self.record.request_id.encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": identified})

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole response."""
        await self.start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.send({"type": "http.response.body", "body": body})

"""Mounts: paths that are not models', such as the documents' and the page's, passed on to the services that have them.

A reverse proxy (RFC 9110, 7.6) on httpx2: bodies are streamed both ways, the path stays as it was sent, hop-by-hop
headers end here, and in place of the client's key the service gets the tenant's signed identity. Not the path of
model requests, which has a client of its own.
"""

import logging
from asyncio import Event
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import unquote_to_bytes

import httpx2
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from capstan.common.context import REQUEST_ID_HEADER, request_id
from capstan.common.disconnect import ClientGone, until_disconnect
from capstan.common.errors import ApiError
from capstan.common.health import Lifecycle
from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.common.middleware import BodyLimit, too_large
from capstan.common.telemetry import inject, tracing_enabled
from capstan.gateway.auth import Authenticator
from capstan.gateway.config import ConfigError, Mount
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.quota import Quota

log = logging.getLogger("capstan.gateway.mounts")

Headers = list[tuple[bytes, bytes]]

_READING = ("GET", "HEAD")
_METHODS = (*_READING, "POST", "PUT", "PATCH", "DELETE")
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade".split()
)
_NOT_FORWARDED = _HOP_BY_HOP | frozenset(
    b"authorization x-api-key cookie expect forwarded http2-settings content-length traceparent tracestate".split()
)
"""Besides these nothing that begins with `x-forwarded-` or `x-capstan-` passes."""
_REQUEST_ID = REQUEST_ID_HEADER.encode()
_NOT_RETURNED = _HOP_BY_HOP | {b"date", b"server", _REQUEST_ID}
_TRACE = (b"traceparent", b"tracestate")
_CONNECT_S = 2.0
_UNREACHABLE = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class Mounts:
    """The mounts in force, in front of the routes of `app`: `check` them, then `apply` them."""

    def __init__(self, app: FastAPI, authenticator: Authenticator, quota: Quota) -> None:
        self._app = app
        self._authenticator = authenticator
        self._quota = quota
        self._signer: Signer = app.state.signer
        self._lifecycle: Lifecycle = app.state.lifecycle
        self._mounts: list[Mount] = []
        limits = httpx2.Limits(max_connections=512, max_keepalive_connections=64, keepalive_expiry=2.0)
        self._client = httpx2.AsyncClient(limits=limits, trust_env=False)
        self.active = 0
        """Requests under way."""
        # Inside of what gives ids, counts and logs; outside of the control plane's limit of bodies.
        limit: object = BodyLimit
        place = next(i for i, middleware in enumerate(app.user_middleware) if middleware.cls is limit)
        app.user_middleware.insert(place, Middleware(self._wrap))

    def check(self, mounts: Sequence[Mount]) -> None:
        """Raises `ConfigError` for a mount that would take a path of the gateway's own."""
        own = self._own_paths() if mounts else []
        for mount in mounts:
            for path in own:
                if _shadows(mount, path):
                    raise ConfigError(f"the mount {mount.path!r} would take the gateway's own {path}; mount less")

    def apply(self, mounts: Sequence[Mount]) -> None:
        """Serve these from now on; requests under way are not touched."""
        self._mounts = sorted(mounts, key=lambda mount: (mount.path.endswith("*"), -len(mount.path)))

    async def close(self) -> None:
        """Close the connections to the services."""
        await self._client.aclose()

    def _own_paths(self) -> list[str]:
        app = self._app
        documentation = (app.openapi_url, app.docs_url, app.redoc_url, app.swagger_ui_oauth2_redirect_url)
        return [*app.openapi()["paths"], *(path for path in documentation if path)]

    def _wrap(self, app: ASGIApp) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            mount = self._find(scope) if scope["type"] == "http" else None
            if mount is None:
                await app(scope, receive, send)
                return
            scope["route"] = mount  # its path is the label in metrics
            self.active += 1
            try:
                with _span(scope, mount):
                    await self._serve(mount, scope, receive, send)
            except ApiError as error:
                await JSONResponse(error.body(), error.status_code, error.headers)(scope, receive, send)
            except ClientGone:
                await Response(status_code=499)(scope, receive, send)  # nobody reads it; the log and the metrics do
            finally:
                self.active -= 1

        return serve

    def _find(self, scope: Scope) -> Mount | None:
        path = scope["raw_path"].decode("latin-1")
        return next((mount for mount in self._mounts if mount.covers(path)), None)

    async def _serve(self, mount: Mount, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises `ApiError` before the answer has begun, `ClientGone` at any time."""
        allowed = _READING if mount.public else _METHODS
        if scope["method"] not in allowed:
            names = ", ".join(allowed)
            raise ApiError(405, "method_not_allowed", f"this path takes {names}", headers={"allow": names})
        _refuse_unclear(scope["raw_path"])
        headers = _forwarded(scope["headers"])
        body = _Body(scope["headers"], receive, mount.max_body_bytes)
        if mount.public:
            self._refuse_in_drain()
            await self._relay(mount, scope, headers, body, send)
            return
        caller = self._authenticator.authenticate(scope["headers"])
        if not caller.internal:
            self._refuse_in_drain()
        identity = self._signer.sign(Identity(caller.tenant, "gateway"))
        headers.append((IDENTITY_HEADER.encode(), identity.encode()))
        reservation = await self._quota.reserve(caller.tenant, caller.limits, 0, 0, counted=not caller.internal)
        try:
            await self._relay(mount, scope, headers, body, send)
        finally:
            self._quota.settle(reservation, 0, 0)

    def _refuse_in_drain(self) -> None:
        if self._lifecycle.refusing:
            raise Refusal(Outcome.DRAINING, "this gateway is shutting down; send the request again", retry_after=1)

    async def _relay(self, mount: Mount, scope: Scope, headers: Headers, body: "_Body", send: Send) -> None:
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        request = httpx2.Request(
            scope["method"],
            str(mount.url),
            headers=headers + body.framing,
            content=body.pieces() if body.framing else None,
            extensions={
                "target": target,  # byte for byte: an id with %2F in it stays one segment
                "timeout": httpx2.Timeout(mount.timeout_s, connect=_CONNECT_S).as_dict(),
            },
        )
        if not body.framing:
            body.ended.set()
        await until_disconnect(body.after, self._exchange(mount, request, body, send))

    async def _exchange(self, mount: Mount, request: httpx2.Request, body: "_Body", send: Send) -> None:
        response = await self._open(mount, request)
        body.ended.set()  # an answer may come before the end of the body, whose rest nobody wants then
        try:
            await send({"type": "http.response.start", "status": response.status_code, "headers": _returned(response)})
            async for piece in response.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except httpx2.TransportError as error:
            # Too late for a status. An answer without its end makes the server close the connection.
            log.warning("an answer broke off", extra={"mount": mount.path, "error": repr(error)})
            return
        finally:
            await response.aclose()
        await send({"type": "http.response.body", "body": b""})

    async def _open(self, mount: Mount, request: httpx2.Request) -> httpx2.Response:
        """The answer's head. A read that failed is tried once more: the service may have closed an idle connection."""
        try:
            try:
                return await self._client.send(request, stream=True)
            except (httpx2.RemoteProtocolError, httpx2.ReadError):
                if request.method not in _READING:
                    raise
                return await self._client.send(request, stream=True)
        except httpx2.LocalProtocolError as error:
            raise Refusal(Outcome.INVALID_REQUEST, f"this request cannot be passed on: {error}") from None
        except _UNREACHABLE:
            message = f"the service behind {mount.path} cannot be reached; try again in a moment"
            raise Refusal(Outcome.NO_UPSTREAM, message, retry_after=5) from None
        except httpx2.TimeoutException:
            message = f"the service behind {mount.path} was silent for {mount.timeout_s:g} s"
            raise Refusal(Outcome.UPSTREAM_TIMEOUT, message) from None
        except httpx2.TransportError:
            message = f"the service behind {mount.path} broke off before it answered"
            raise Refusal(Outcome.UPSTREAM_DIED, message) from None


class _Body:
    """A request's body, read as it comes and counted against `limit` bytes."""

    def __init__(self, headers: Headers, receive: Receive, limit: int) -> None:
        """Raises `Refusal` for a body whose announced length is past the limit."""
        self._receive = receive
        self._limit = limit
        self.ended = Event()
        """Nobody reads the body any more: what `receive` says next is about the connection."""
        self.framing: Headers = []
        """Headers that tell its length, as the client told it; none where there is no body."""
        length = next((value for name, value in headers if name == b"content-length"), b"0")
        if any(name == b"transfer-encoding" for name, _ in headers):
            self.framing = [(b"transfer-encoding", b"chunked")]
        elif int(length) > limit:
            raise self._too_large()
        elif int(length):
            self.framing = [(b"content-length", length)]

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body. Raises `Refusal` past the limit, `ClientGone` when it breaks off."""
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            size += len(piece)
            if size > self._limit:
                raise self._too_large()
            if piece:
                yield piece
            more = message.get("more_body", False)
        self.ended.set()

    async def after(self) -> Message:
        """`receive`, once the body has ended."""
        await self.ended.wait()
        return await self._receive()

    def _too_large(self) -> Refusal:
        return Refusal(Outcome.REQUEST_TOO_LARGE, too_large(self._limit).detail)


def _shadows(mount: Mount, own: str) -> bool:
    """Whether a mount covers one of the gateway's own paths, whose parameters are in braces."""
    literal, _, parameter = own.partition("{")
    if mount.path.endswith("*") and literal.startswith(mount.prefix):
        return True
    return mount.prefix.startswith(literal) if parameter else mount.path == own


def _refuse_unclear(raw_path: bytes) -> None:
    """Refuse a path that a reader who resolves dots would take for another one, encoded or not.

    Slashes are clear, encoded or doubled: they are part of ids, and nobody behind here merges them.
    """
    decoded = unquote_to_bytes(raw_path).replace(b"\\", b"/")
    if min(decoded) < 0x20 or not {b".", b".."}.isdisjoint(decoded.split(b"/")):
        raise Refusal(Outcome.INVALID_REQUEST, "the path must not hold '.' or '..' segments, nor control characters")


def _named_in_connection(headers: Headers) -> set[bytes]:
    """Headers that `Connection` says are for the next hop only."""
    return {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}


def _forwarded(headers: Headers) -> Headers:
    """What goes to the service of the client's headers, with the request's id and trace."""
    dropped = _NOT_FORWARDED | _named_in_connection(headers)
    own = {REQUEST_ID_HEADER: request_id.get()}
    if tracing_enabled():
        inject(own)
    else:
        own |= {name.decode(): value.decode("latin-1") for name, value in headers if name in _TRACE}
    kept = [
        (name, value)
        for name, value in headers
        if name not in dropped and name != _REQUEST_ID and not name.startswith((b"x-forwarded-", b"x-capstan-"))
    ]
    return kept + [(name.encode(), value.encode("latin-1")) for name, value in own.items()]


def _returned(response: httpx2.Response) -> Headers:
    """What goes to the client of the service's headers."""
    headers = [(name.lower(), value) for name, value in response.headers.raw]
    dropped = _NOT_RETURNED | _named_in_connection(headers)
    if response.status_code == 304:  # it has no body, whatever its length says
        dropped |= {b"content-length"}
    return [(name, value) for name, value in headers if name not in dropped]


@contextmanager
def _span(scope: Scope, mount: Mount) -> Iterator[None]:
    """Name the request's span by its mount, and time the call behind it in one of its own."""
    if not tracing_enabled():
        yield
        return
    from opentelemetry import trace

    name = f"{scope['method']} {mount.path}"
    current = trace.get_current_span()
    current.update_name(name)
    current.set_attribute("http.route", mount.path)
    attributes = {"server.address": mount.url.host or "", "capstan.request_id": request_id.get()}
    tracer = trace.get_tracer("capstan.gateway")
    with tracer.start_as_current_span(f"mount {name}", kind=trace.SpanKind.CLIENT, attributes=attributes):
        yield

"""An upstream server: its address, its kept-alive connections, and how much it has to do."""

import asyncio
import ssl
import time
from typing import cast
from urllib.parse import urlsplit

from capstan.gateway.upstream_connection import Connection, Silent, StaleConnection, Unreachable, Watchdog

CONNECT_TIMEOUT_S = 2.0


class Upstream:
    """One upstream server and its idle connections."""

    def __init__(self, url: str, watchdog: Watchdog, *, api_key: str = "", address: str = "") -> None:
        """`address` is where to connect, if not to the host that `url` names."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.url = url.rstrip("/")
        self._watchdog = watchdog
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname
        self._address = address or parts.hostname
        self._port = parts.port or (443 if self._tls else 80)
        host = f"[{self._host}]" if ":" in self._host else self._host
        fixed = f" HTTP/1.1\r\nhost: {host}{'' if parts.port is None else f':{parts.port}'}\r\n"
        self._fixed = (fixed + (f"authorization: Bearer {api_key}\r\n" if api_key else "")).encode()
        self._prefix = parts.path.rstrip("/").encode()
        self._idle: list[Connection] = []
        self.running = 0
        """Requests that this gateway has at the upstream."""
        self._work = 0.0
        self._worked_at = 0.0

    async def send(
        self, method: bytes, path: bytes, headers: bytes, body: bytes, limit_s: float, now: float
    ) -> Connection:
        """Send a request and wait up to `limit_s` seconds for the response's status and headers.

        `headers` are lines that end with CRLF. The connection must be given back with `release`.
        Raises `UpstreamError`.
        """
        head = b"%b %b%b%b%bcontent-length: %d\r\n\r\n" % (method, self._prefix, path, self._fixed, headers, len(body))
        self._tick(now)
        self.running += 1
        began = self._work
        connection = self._kept()
        try:
            if connection is None:
                connection = await self._connect()
            while True:
                try:
                    connection.send(head, body, limit_s)
                    while not connection.head_complete:
                        await connection.changed()
                    break
                except StaleConnection:
                    self.close()  # the others are as old
                    connection = await self._connect()
        except BaseException:
            self.running -= 1
            if connection is not None:
                connection.abort()
            raise
        connection.began = began
        return connection

    def release(self, connection: Connection, now: float) -> float:
        """Give a connection back: kept when it can serve again, closed otherwise.

        Returns the request's share of the upstream's time in seconds: where n requests ran, each had 1/n of it.
        """
        if connection.rest():
            connection.used = True
            self._idle.append(connection)
        else:
            connection.abort()
        self._tick(now)
        self.running -= 1
        return self._work - connection.began

    async def fetch(
        self, method: bytes, path: bytes, headers: bytes, body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        """A small whole answer, for probes: status and body. Raises `UpstreamError`."""
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self.send(method, path, headers, body, timeout_s, time.monotonic())
                try:
                    return connection.status, await connection.body()
                finally:
                    self.release(connection, time.monotonic())
        except TimeoutError:
            raise Silent(f"it did not answer within {timeout_s:g} s") from None

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _tick(self, now: float) -> None:
        """Advance the virtual clock of processor sharing: it runs 1/n as fast with n requests."""
        if self.running and now > self._worked_at:
            self._work += (now - self._worked_at) / self.running
        self._worked_at = max(now, self._worked_at)

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        name = self._host if self._tls else None
        fresh = Connection(self._watchdog)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.create_connection(
                    lambda: cast(asyncio.Protocol, fresh),
                    self._address,
                    self._port,
                    ssl=self._tls,
                    server_hostname=name,
                )
        except TimeoutError:
            raise Unreachable(f"no connection within {CONNECT_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise Unreachable(error.strerror or str(error)) from None
        return fresh

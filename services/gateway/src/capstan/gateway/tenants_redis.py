"""Tenants in Redis, for several gateways: one hash of JSON by name, and a version that grows with each change.

Each change is published, and the version is looked at every second, so that a revoked key is refused everywhere at
once, or within a second if the message is lost. Without Redis the last tenants stay in force for a quarter of an
hour and then nobody is let in; changes are refused from the beginning.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from pydantic import ValidationError

from capstan.gateway.config import ConfigError, Tenant
from capstan.gateway.redis_client import UNREACHABLE, connect, no_start, unavailable
from capstan.gateway.tenants import Change, Changed, changed_tenants, check

TRUSTED_S = 900.0
"""Seconds for which tenants are trusted that could not be confirmed."""
TENANTS = "capstan:{control}:tenants"
"""JSON by name; empty for one that was deleted, so that the keys file does not bring it back."""
VERSION = "capstan:{control}:version"
CHANNEL = "capstan:control:changed"

_ATTEMPTS = 16
"""Tries of a change that others keep overtaking."""

_COMPARE_AND_SET = """
-- KEYS: version, tenants. ARGV: version to be replaced, version to be set, channel, then names and values.
if tonumber(redis.call('GET', KEYS[1]) or '0') ~= tonumber(ARGV[1]) then return 0 end
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[2])
return 1
"""

log = logging.getLogger(__name__)

Raw = Mapping[bytes, bytes]
"""The hash as it is in Redis."""


class RedisTenants:
    """Tenants in Redis. Those of `read_seed` (the keys file) that Redis never had are written at start and reload.

    `now` is a monotonic clock in seconds. Redis that comes back empty gets the tenants known here again.
    """

    def __init__(
        self,
        url: str,
        read_seed: Callable[[], Mapping[str, Tenant]],
        *,
        timeout_s: float,
        registry: CollectorRegistry,
        poll_s: float = 1.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tenants: Mapping[str, Tenant] = {}
        self._redis = connect(url, timeout_s)
        self._compare_and_set = self._redis.register_script(_COMPARE_AND_SET)
        self._read_seed = read_seed
        self._poll_s = poll_s
        self._now = now
        self._version = 0
        self._raw: Raw = {}
        self._confirmed = now()
        self._reading = asyncio.Lock()
        self._subscribers: list[Changed] = []
        self._follower: asyncio.Task[None] | None = None
        self._closing = False
        self._lost = False
        age = Gauge(
            "capstan_gateway_tenants_age_seconds",
            "Seconds since the tenants were last known to be current.",
            registry=registry,
        )
        age.set_function(lambda: self._now() - self._confirmed)

    @property
    def stale(self) -> bool:
        """See `TenantStore.stale`."""
        return self._now() - self._confirmed > TRUSTED_S

    def subscribe(self, changed: Changed) -> None:
        """See `TenantStore.subscribe`."""
        self._subscribers.append(changed)

    async def start(self) -> None:
        """See `TenantStore.start`."""
        try:
            await self._seed()
            await self._refresh()
        except (ConfigError, *UNREACHABLE) as error:
            await self._redis.aclose()
            raise (error if isinstance(error, ConfigError) else no_start(error)) from None
        self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """See `TenantStore.close`."""
        self._closing = True
        if self._follower is not None:
            self._follower.cancel()  # redis-py sometimes takes it for a time-out of its own
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
        await self._redis.aclose()

    async def reload(self) -> None:
        """See `TenantStore.reload`; reads the keys file too."""
        try:
            await self._seed()
            await self._refresh()
        except UNREACHABLE:
            raise unavailable("tenants") from None

    async def update(self, name: str, change: Change) -> None:
        """See `TenantStore.update`. `change` may be called several times. As durable as Redis is set up to be."""

        def write(raw: Raw) -> Raw:
            after = changed_tenants(_parse(raw), name, change)
            return {name.encode(): _json(after[name]) if name in after else b""}

        try:
            await self._write(write)
            await self._refresh()
        except UNREACHABLE:
            raise unavailable("tenants") from None

    async def _seed(self) -> None:
        """Write the tenants of the keys file that Redis never had."""
        seed = await asyncio.to_thread(self._read_seed)

        def write(raw: Raw) -> Raw:
            missing = {name: tenant for name, tenant in seed.items() if name.encode() not in raw}
            check({**_parse(raw), **missing})
            return {name.encode(): _json(tenant) for name, tenant in missing.items()}

        await self._write(write)

    async def _write(self, make: Callable[[Raw], Raw]) -> None:
        """Set the fields that `make` gives for the present ones, all or nothing."""
        for _ in range(_ATTEMPTS):
            version, raw = await self._read()
            fields = make(raw)
            if not fields or await self._replaced(version, version + 1, fields):
                return
        raise unavailable("tenants")

    async def _read(self) -> tuple[int, Raw]:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(VERSION)
            pipe.hgetall(TENANTS)
            version, raw = await pipe.execute()
        return int(version or 0), raw

    async def _replaced(self, version: int, by: int, fields: Raw) -> bool:
        """Whether nobody was faster: `fields` are set only on top of `version`."""
        arguments: list[Any] = [version, by, CHANNEL]
        for field in fields.items():
            arguments += field
        return bool(await self._compare_and_set(keys=[VERSION, TENANTS], args=arguments))

    async def _follow(self) -> None:
        """Read the tenants at each message, and once a second in any case."""
        while not self._closing:
            try:
                async with self._redis.pubsub() as messages:
                    await messages.subscribe(CHANNEL)
                    while not self._closing:
                        await self._refresh()
                        self._tell(lost=False)
                        await messages.get_message(ignore_subscribe_messages=True, timeout=self._poll_s)
            except UNREACHABLE:
                self._tell(lost=True)
                await asyncio.sleep(self._poll_s)

    async def _refresh(self) -> None:
        """Take over what Redis has, if its version is another than the one known here."""
        async with self._reading:
            asked = self._now()
            version = int(await self._redis.get(VERSION) or 0)
            if version < self._version:
                await self._restore(version)
            elif version > self._version:
                self._version, self._raw = await self._read()
                self._replace(_parse(self._raw))
            self._confirmed = asked

    async def _restore(self, version: int) -> None:
        """Redis has lost its data: give it back what it had, unless another gateway is faster."""
        if await self._replaced(version, self._version, self._raw):
            log.error("Redis has lost the tenants; it was given those known here", extra={"version": self._version})

    def _replace(self, tenants: Mapping[str, Tenant]) -> None:
        self.tenants = tenants
        for changed in self._subscribers:
            changed(tenants)

    def _tell(self, *, lost: bool) -> None:
        if lost and not self._lost:
            log.error("Redis does not answer; the tenants known last stay in force", extra={"for_s": TRUSTED_S})
        elif self._lost and not lost:
            log.info("Redis answers again; tenants are current")
        self._lost = lost


def _json(tenant: Tenant) -> bytes:
    return tenant.model_dump_json().encode()


def _parse(raw: Raw) -> dict[str, Tenant]:
    """The tenants in Redis. One that cannot be read is left out, so that its keys are refused."""
    tenants = {}
    for name, value in raw.items():
        if not value:
            continue
        try:
            tenants[name.decode()] = Tenant.model_validate_json(value)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            extra = {"tenant": name.decode(), "why": f"{problem['loc']}: {problem['msg']}"}
            log.error("a tenant in Redis cannot be read; its keys are refused", extra=extra)  # noqa: TRY400
    return tenants

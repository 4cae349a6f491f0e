"""LoRA adapters, loaded on the worker that needs them when it needs them."""

import asyncio

import orjson

from capstan.gateway.member import Member
from capstan.gateway.upstream_connection import UpstreamError

_PATH = b"/v1/load_lora_adapter"
_JSON = b"content-type: application/json\r\n"
_TIMEOUT_S = 60.0


class Adapters:
    """Loads adapters. One load at a time for a worker and an adapter: all who need it wait for the same one."""

    def __init__(self) -> None:
        self._loads: dict[tuple[Member, str], asyncio.Task[None]] = {}

    async def ensure(self, member: Member, name: str, path: str) -> None:
        """Have the adapter at `path` (as the worker sees it) served by the member as model `name`.

        Call `lost` first when the member answered 404 for it. Raises `UpstreamError`.
        """
        if name in member.adapters:
            return
        load = self._loads.get((member, name))
        if load is None:
            load = self._loads[member, name] = asyncio.create_task(self._load(member, name, path))
            load.add_done_callback(lambda done: self._finished(member, name, done))
        await asyncio.shield(load)  # a client that goes away does not end the load that others wait for

    def _finished(self, member: Member, name: str, load: asyncio.Task[None]) -> None:
        del self._loads[member, name]
        if not load.cancelled():
            load.exception()  # looked at, should nobody be left who waits for it

    @staticmethod
    def lost(member: Member, name: str) -> None:
        """The member does not know the adapter any more: it has restarted."""
        member.adapters.discard(name)

    @staticmethod
    async def _load(member: Member, name: str, path: str) -> None:
        body = orjson.dumps({"lora_name": name, "lora_path": path})
        status, answer = await member.upstream.fetch(b"POST", _PATH, _JSON, body, _TIMEOUT_S)
        if status != 200 and not (status == 400 and b"already been loaded" in answer):
            reason = answer[:300].decode(errors="replace")
            raise UpstreamError(f"it could not load the adapter {name!r} from {path} (status {status}): {reason}")
        member.adapters.add(name)

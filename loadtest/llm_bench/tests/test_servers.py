"""Processes of the bench: their memory, and that those which are no longer wanted are stopped."""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from capstan.native.supervisor import ServiceFailed
from loadtest.llm_bench import servers
from loadtest.llm_bench.servers import gateway, make_key, memory_mb, naive, vllm

_CHILD = "x = bytearray(b'1') * 40_000_000; print('ready', flush=True); input()"
_PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_CHILD!r}])"


def test_memory_is_that_of_the_whole_group() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        assert 40 < memory_mb(parent.pid) < 140
        parent.communicate(b"\n")


async def test_what_is_not_kept_is_stopped_and_what_was_killed_comes_back(tmp_path: Path) -> None:
    async with servers.servers(tmp_path) as running:
        await running.start(vllm("worker", simulate=True))
        key = make_key(tmp_path)
        await running.start(gateway("gateway", tmp_path, [running.targets["worker"].url]), key=key)
        target, before = running.targets["gateway"], running.pid("worker")
        assert target.key == key
        await running.restart("worker", kill=True)
        assert running.pid("worker") != before
        await running.keep_only("worker")
        assert list(running.targets) == ["worker"]
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{target.url}/healthz", trust_env=False)
        left = running.pid("worker")
    with pytest.raises(ProcessLookupError):
        os.kill(left, 0)


def test_an_environment_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPSTAN_NATIVE_WORKER_PYTHON")
    with pytest.raises(ServiceFailed, match="run 'make bench-llm'"):
        naive("naive", 1)

"""SIGTERM to a simulator that runs as its own process."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import httpx2
import pytest

BODY = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "a"}], "stream": True, "ignore_eos": True}


@contextlib.contextmanager
def running(**settings: str):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith("CAPSTAN_")}
    env |= {"PYTHONPATH": os.pathsep.join(sys.path), "CAPSTAN_WORKER_PORT": str(port), **settings}
    process = subprocess.Popen(
        [sys.executable, "-m", "capstan.worker", "--simulate"], env=env, stdout=subprocess.DEVNULL
    )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            _wait_until_up(client, process)
            yield process, client
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _wait_until_up(client: httpx2.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx2.ConnectError):
            if client.get("/health").status_code == 200:
                return
        time.sleep(0.05)
    pytest.fail("the simulator did not come up")


def test_running_requests_finish_and_new_ones_are_refused():
    with running(CAPSTAN_WORKER_SIM_TPOT_MS="10") as (process, client):
        with client.stream("POST", "/v1/chat/completions", json=BODY | {"max_tokens": 60}) as response:
            parts = response.iter_bytes()
            received = next(parts)
            process.send_signal(signal.SIGTERM)
            # The signal and this request race; a refusal must come while the stream still runs.
            while client.post("/v1/chat/completions", json=BODY | {"max_tokens": 1}).status_code != 503:
                assert process.poll() is None
            received += b"".join(parts)

        assert received.count(b'"content":') == 61
        assert received.endswith(b"data: [DONE]\n\n")
        assert process.wait(10) == 0


def test_a_drain_that_takes_too_long_ends_with_an_abort():
    with running(CAPSTAN_DRAIN_S="0.2") as (process, client):
        with client.stream("POST", "/v1/chat/completions", json=BODY | {"max_tokens": 5000}) as response:
            parts = response.iter_bytes()
            received = next(parts)
            process.send_signal(signal.SIGTERM)
            received += b"".join(parts)

        assert b'"finish_reason":"abort"' in received
        assert received.endswith(b"data: [DONE]\n\n")
        assert process.wait(10) == 0


def test_an_idle_worker_stops_at_once():
    with running() as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0

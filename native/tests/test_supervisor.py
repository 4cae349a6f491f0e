"""The supervisor, with small real processes."""

import asyncio
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from capstan.native.console import Console
from capstan.native.supervisor import Service, ServiceFailed, Supervisor

SERVER = """
    import http.server, pathlib, signal, sys, time
    log = pathlib.Path({log!r})
    def note(what):
        with log.open("a") as f: f.write(what + " {name}\\n")
    def stop(*_):
        note("stopped")
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    note("started")
    print("hello from {name}", flush=True)
    {extra}
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
        def log_message(self, *_): pass
    http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""

MakeService = Callable[..., Service]


@pytest.fixture
def make(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> MakeService:
    def make_service(name: str, *, after: tuple[str, ...] = (), extra: str = "") -> Service:
        port = unused_tcp_port_factory()
        program = textwrap.dedent(SERVER).format(log=str(tmp_path / "log"), name=name, port=port, extra=extra)
        return Service(name, (sys.executable, "-c", program), {}, f"http://127.0.0.1:{port}/", after)

    return make_service


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    return Supervisor(Console(), tmp_path / "logs", start_timeout_s=20)


async def test_services_start_in_order_and_stop_in_reverse(
    supervisor: Supervisor, make: MakeService, tmp_path: Path
) -> None:
    await supervisor.start([make("c", after=("b",)), make("a"), make("b", after=("a",))])
    await supervisor.stop()
    order = (tmp_path / "log").read_text().splitlines()
    assert order == ["started a", "started b", "started c", "stopped c", "stopped b", "stopped a"]
    assert (tmp_path / "logs/a.log").read_text() == "hello from a\n"


async def test_a_child_that_dies_at_start_is_shown_with_its_last_words(
    supervisor: Supervisor, make: MakeService, tmp_path: Path
) -> None:
    bad = make("bad", extra='sys.exit("the disk is full")')
    with pytest.raises(ServiceFailed, match=r"bad ended with code 1(.|\n)*hello from bad\n  the disk is full"):
        await supervisor.start([bad, make("never", after=("bad",))])
    await supervisor.stop()
    assert "never" not in (tmp_path / "log").read_text()


async def test_a_child_that_dies_later_ends_the_wait(supervisor: Supervisor, make: MakeService) -> None:
    dying = make("dying", extra="signal.signal(signal.SIGALRM, lambda *_: sys.exit(7)); signal.alarm(2)")
    await supervisor.start([make("fine"), dying])
    failure = await asyncio.wait_for(supervisor.died(), 10)
    assert "dying ended with code 7" in str(failure)
    await supervisor.stop()


async def test_a_service_that_never_becomes_ready_is_given_up(tmp_path: Path, make: MakeService) -> None:
    supervisor = Supervisor(Console(), tmp_path / "logs", start_timeout_s=0.5)
    with pytest.raises(ServiceFailed, match="stuck was not ready"):
        await supervisor.start([make("stuck", extra="time.sleep(60)")])
    await supervisor.stop()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('{"level": "info", "msg": "quiet", "ts": "x", "service": "gateway"}', ""),
        (
            '{"level": "warning", "msg": "slow", "ts": "x", "service": "gateway", "ms": 3}',
            "gateway   | warning: slow ms=3",
        ),
        ("INFO 11-22 plain vLLM line", ""),
        ("error: CAPSTAN_X: unknown setting", "gateway   | error: CAPSTAN_X: unknown setting"),
    ],
)
def test_the_console_shows_what_needs_attention(capsys: pytest.CaptureFixture[str], line: str, shown: str) -> None:
    Console().service_line("gateway", line)
    assert capsys.readouterr().out.strip() == shown

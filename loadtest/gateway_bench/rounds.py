"""The measurement: rounds in which every arm has its turn, one awake at a time."""

import http.client
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from loadtest.gateway_bench.arms import Arm, ArmError, Site, command_line
from loadtest.gateway_bench.http_load import Wrk
from loadtest.gateway_bench.machine import Process, Processes, awake, busy_s, free_port
from loadtest.gateway_bench.payloads import PATH, request_body

_START_S = 90.0
_SOAK_S = 10
_STREAM_RUN_S = 60.0
"""What a stream run may take beyond its counted seconds: ramp, end of the running streams."""

Cell = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Cores:
    """Which core does what."""

    load: int
    gateway: int


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    one_s: int
    """Seconds at concurrency 1."""
    many_s: int
    """Seconds at concurrency 32."""
    streams: tuple[int, ...]
    stream_s: float
    soak_requests: int


@dataclass
class Running:
    """An arm that serves."""

    arm: Arm
    url: str
    headers: tuple[str, ...] = ()
    process: Process | None = None
    rss_mb: dict[str, float] = field(default_factory=dict)

    def note_rss(self, when: str) -> None:
        """Remember its memory under a name."""
        if self.process is not None:
            self.rss_mb[when] = round(self.process.rss_mb(), 1)


Load = Callable[[Running], Cell]
"""Puts load on an arm and says what it gave."""


class Bench:
    """Runs the phases; what it found is in `cells`, `soak`, `rss_mb`, `commands` and `problems`."""

    def __init__(self, site: Site, processes: Processes, cores: Cores, plan: Plan, say: Say) -> None:
        self._site = site
        self._processes = processes
        self._cores = cores
        self._plan = plan
        self._say = say
        self._wrk = Wrk.prepare(site.directory, cores.load)
        self.cells: list[Cell] = []
        self.rss_mb: dict[str, dict[str, float]] = {}
        self.soak: Cell = {}
        self.commands: dict[str, str] = {}
        self.problems: dict[str, str] = {}

    def requests(self, arms: Iterable[Arm], upstream: str) -> None:
        """Non-streaming: concurrency 1 and 32, then a million requests to see whether memory grows."""
        running = self._start(arms, upstream)
        self._each(running, 0, lambda one: self._wrk.run(one.url, one.headers, 32, 1))
        for number in range(1, self._plan.rounds + 1):
            self._each(running, number, lambda one: self._wrk.run(one.url, one.headers, 1, self._plan.one_s))
            self._each(running, number, lambda one: self._wrk.run(one.url, one.headers, 32, self._plan.many_s))
        for one in running:
            one.note_rss("after_requests")
        for one in running:
            if one.arm.name == "capstan" and self._plan.soak_requests:
                self._soak(one)
        self._stop(running)

    def streams(self, arms: Iterable[Arm], upstream: str) -> None:
        """Streaming: each number of streams at once."""
        running = self._start(arms, upstream)
        for number in range(1, self._plan.rounds + 1):
            for place in range(len(self._plan.streams)):
                self._each(running, number, partial(self._stream, place))
        for one in running:
            one.note_rss("after_streams")
        self._stop(running)

    def _start(self, arms: Iterable[Arm], upstream: str) -> list[Running]:
        running = []
        for arm in arms:
            if arm.name in self.problems:
                continue
            try:
                running.append(self._start_one(arm, upstream))
            except ArmError as error:
                self._give_up(arm.name, str(error))
        return running

    def _start_one(self, arm: Arm, upstream: str) -> Running:
        if arm.launch is None:
            _wait_until_serving(one := Running(arm, upstream))
            return one
        port = free_port()
        launch = arm.launch(self._site, port, upstream)
        self.commands[arm.name] = command_line(launch, self._cores.gateway)
        process = self._processes.start(arm.name, launch.command, self._cores.gateway, launch.environment)
        one = Running(arm, f"http://127.0.0.1:{port}", launch.headers, process)
        with awake(process):
            _wait_until_serving(one)
            one.note_rss("started")
        return one

    def _each(self, running: list[Running], number: int, load: Load) -> None:
        """One turn for each arm; an arm that breaks has no more."""
        for one in list(running):
            cell = self._turn(one, load)
            if cell is None:
                running.remove(one)
            elif number:  # round 0 warms up
                self.cells.append({"arm": one.arm.name, "round": number, **cell})
                self._say(_line(self.cells[-1]))

    def _turn(self, one: Running, load: Load) -> Cell | None:
        try:
            with awake(one.process):
                return self._measure(one, load)
        except ArmError as error:
            self._give_up(one.arm.name, str(error))
            return None

    def _measure(self, one: Running, load: Load) -> Cell:
        before = time.monotonic(), busy_s(self._cores.load), busy_s(self._cores.gateway)
        cpu = one.process.cpu_s() if one.process else 0.0
        try:
            cell = load(one)
        except (subprocess.SubprocessError, ValueError, IndexError) as error:
            words = one.process.last_words() if one.process else ""
            raise ArmError(f"{getattr(error, 'stderr', None) or error}\n  {words}") from None
        after = time.monotonic(), busy_s(self._cores.load), busy_s(self._cores.gateway)
        lasted, load_busy, gateway_busy = (b - a for a, b in zip(before, after, strict=True))
        used = one.process.cpu_s() - cpu if one.process else 0.0
        if one.process:
            work = cell.get("requests") or cell.get("chunks") or 1
            cell["gateway_cpu_us"] = round(used / work * 1e6, 1)
        cell["load_core_busy"] = round(load_busy / lasted, 2)
        cell["others_on_gateway_core"] = round(max(0.0, gateway_busy - used) / lasted, 2)
        return cell

    def _stream(self, place: int, one: Running) -> Cell:
        streams = (one.arm.streams or self._plan.streams)[place]
        command = ["taskset", "-c", str(self._cores.load), sys.executable, "-m", "loadtest.gateway_bench.stream_load"]
        command += ["--url", one.url, "--streams", str(streams), "--seconds", str(self._plan.stream_s)]
        command += [part for header in one.headers for part in ("--header", header)]
        limit = self._plan.stream_s + _STREAM_RUN_S
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=limit)
        cell: Cell = json.loads(done.stdout)
        return cell

    def _soak(self, one: Running) -> None:
        """Many requests through one arm: whether its memory grows."""
        sent = 0
        failures: Counter[str] = Counter()
        before = one.rss_mb["after_requests"]
        while sent < self._plan.soak_requests:
            cell = self._turn(one, lambda one: self._wrk.run(one.url, one.headers, 32, _SOAK_S))
            if cell is None:
                return
            sent += cell["requests"]
            failures.update(cell["failures"])
            self._say(f"soak     {one.arm.name:<14} {sent:,} requests")
        one.note_rss("after_soak")
        grown = round(one.rss_mb["after_soak"] - before, 1)
        result = {"arm": one.arm.name, "requests": sent, "rss_growth_mb": grown}
        self.soak = {**result, "failed": failures.total(), "failures": dict(failures)}

    def _stop(self, running: list[Running]) -> None:
        for one in running:
            self.rss_mb.setdefault(one.arm.name, {}).update(one.rss_mb)
        self._processes.stop(*(one.process for one in running if one.process))

    def _give_up(self, name: str, problem: str) -> None:
        self.problems[name] = problem
        self._say(f"{name}: {problem}")


def _wait_until_serving(one: Running) -> None:
    """Wait until a completion comes through the arm. Raises `ArmError`."""
    deadline = time.monotonic() + _START_S
    seen = "nothing"
    while time.monotonic() < deadline and (one.process is None or one.process.running):
        try:
            status, body = _ask(one)
        except OSError as error:
            seen = str(error)
        else:
            if status == 200 and b'"chat.completion"' in body:
                return
            seen = f"status {status}: {body[:200].decode(errors='replace')}"
        time.sleep(0.2)
    words = one.process.last_words() if one.process else ""
    raise ArmError(f"did not serve ({seen}); the end of its log:\n  {words}")


def _ask(one: Running) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(one.url).netloc, timeout=5)
    headers = dict(header.split(": ", 1) for header in one.headers)
    try:
        connection.request("POST", PATH, request_body(stream=False), {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from None
    finally:
        connection.close()


def _line(cell: Cell) -> str:
    """A cell in one line, for progress."""
    if "streams" in cell:
        what = f"{cell['streams']} streams: {cell['chunks_s']:,.0f} chunks/s"
    else:
        what = f"concurrency {cell['connections']}: {cell['rps']:,.0f} requests/s, p50 {cell['p50_ms']} ms"
    failed = f", {cell['failed']} FAILED {cell['failures']}" if cell["failed"] else ""
    return f"round {cell['round']}  {cell['arm']:<14} {what}{failed}"

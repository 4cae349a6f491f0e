"""`make run` and `make smoke`: start the stack, load the documents, ask."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from capstan.common.provenance import provenance
from capstan.native.ask import Answered, AskFailed, ask
from capstan.native.console import Console
from capstan.native.settings import NativeSettings
from capstan.native.stack import ASSISTANT, LLM, api_key, check_ports, forget, identity_secret, remember, services
from capstan.native.supervisor import ServiceFailed, Supervisor

SAMPLE = "How do I show the commits that changed a file in git?"
SMOKE_QUESTIONS = (
    SAMPLE,
    "Which system call creates a pipe?",
    "How do I list the objects in an S3 bucket with the AWS CLI?",
)


@dataclass
class Timings:
    """Seconds: set-up before the stack, start until ready and searchable, first answer since the command began."""

    setup_s: float
    started_at: float = field(default_factory=time.monotonic)
    start_s: float = 0.0
    first_answer_s: float = 0.0


Work = Callable[[Supervisor, Timings], Awaitable[int]]


async def run(settings: NativeSettings) -> int:
    """Serve until Ctrl-C, which drains; the exit code."""
    console = Console(all_logs=settings.logs)

    async def serve(supervisor: Supervisor, timings: Timings) -> int:
        key = api_key(settings)
        console.plain(f"\nQ: {SAMPLE}\nA: ", end="")
        await ask(_gateway(settings), key, SAMPLE, console)
        _note_first_answer(timings)
        _keep_figures(settings, "make run", _figures(settings, timings))
        _welcome(settings, key, timings, console)
        failure = await supervisor.died()
        raise failure

    return await with_stack(settings, console, serve)


async def smoke(settings: NativeSettings) -> int:
    """Ask three questions, check their citations, print the figures as one JSON line; the exit code."""
    console = Console(all_logs=settings.logs)

    answers: list[Answered] = []
    figures: dict[str, float] = {}

    async def question(_: Supervisor, timings: Timings) -> int:
        for text in SMOKE_QUESTIONS:
            console.plain(f"\nQ: {text}\nA: ", end="")
            answers.append(await ask(_gateway(settings), api_key(settings), text, console))
            if len(answers) == 1:
                _note_first_answer(timings)
        problems = [problem for answer in answers for problem in answer.problems()]
        for problem in problems:
            console.say(f"error: {problem}")
        cited = sum(bool(answer.annotations) for answer in answers)
        figures.update(_figures(settings, timings), answers=len(answers), cited=cited)
        _keep_figures(settings, "make smoke", figures)
        return 0 if cited == len(answers) and not problems else 1

    code = await with_stack(settings, console, question)
    if figures:
        console.plain(json.dumps(figures))
    return code


async def with_stack(settings: NativeSettings, console: Console, work: Work) -> int:
    """Start everything, do `work`, stop everything. Ctrl-C, SIGTERM and a closed terminal drain and give 0."""
    settings.state.mkdir(parents=True, exist_ok=True)
    api_key(settings)
    check_ports(settings)
    supervisor = Supervisor(console, settings.state / "logs", start_timeout_s=settings.start_timeout_s)
    timings = Timings(settings.setup_s)
    main = asyncio.create_task(_start_and_work(settings, console, supervisor, timings, work))
    loop = asyncio.get_running_loop()
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(stop, main.cancel)
    try:
        return await main
    except asyncio.CancelledError:
        console.say("stopping: running requests are finished first")
        return 0
    except (ServiceFailed, AskFailed) as error:
        console.plain()
        console.say(f"error: {error}")
        return 1
    finally:
        await supervisor.stop()
        forget(settings)
        console.say("stopped")


async def _start_and_work(
    settings: NativeSettings, console: Console, supervisor: Supervisor, timings: Timings, work: Work
) -> int:
    console.say("starting five services")
    async with _first_error_only(), asyncio.TaskGroup() as group:
        group.create_task(supervisor.start(services(settings)))
        group.create_task(_load_documents(settings, supervisor))  # while the model is still loading
    remember(settings)
    timings.start_s = time.monotonic() - timings.started_at
    dead = asyncio.create_task(supervisor.died())
    working = asyncio.ensure_future(work(supervisor, timings))
    try:
        await asyncio.wait({working, dead}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise dead.result()
    finally:
        for task in (working, dead):
            task.cancel()
            with suppress(asyncio.CancelledError, ServiceFailed, AskFailed):
                await task


@asynccontextmanager
async def _first_error_only() -> AsyncIterator[None]:
    """A task group's first failure is the one to show; the others follow from it."""
    try:
        yield
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _load_documents(settings: NativeSettings, supervisor: Supervisor) -> None:
    """Bring the retriever up to date with the corpus; unchanged documents cost a look."""
    await supervisor.ready("retriever")
    command = [str(settings.jobs_python), "-m", "capstan.jobs.corpus", "load", "--prune", "--tenant", "shared"]
    command += ["--corpus", str(settings.corpus_dir)]
    command += ["--retriever", f"http://127.0.0.1:{settings.retriever_port}"]
    secret = {"CAPSTAN_IDENTITY_SECRET": identity_secret(settings.state)}
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **secret}, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    try:
        status = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if status:
        raise ServiceFailed("the documents could not be loaded; see the lines above")


def _figures(settings: NativeSettings, timings: Timings) -> dict[str, float]:
    return {
        "setup_s": round(timings.setup_s, 1),
        "start_s": round(timings.start_s, 1),
        "first_answer_s": round(timings.first_answer_s, 1),
        "documents": _documents(settings),
    }


def _keep_figures(settings: NativeSettings, command: str, figures: dict[str, float]) -> None:
    """Leave the figures with their provenance in the stack's state, as documents quote them."""
    (settings.state / "figures.json").write_text(json.dumps({**provenance(command), **figures}, indent=1) + "\n")


def _documents(settings: NativeSettings) -> int:
    manifest = json.loads((settings.corpus_dir / "manifest.json").read_text())
    return int(manifest["total"]["documents"])


def _note_first_answer(timings: Timings) -> None:
    timings.first_answer_s = timings.setup_s + time.monotonic() - timings.started_at


def _gateway(settings: NativeSettings) -> str:
    return f"http://127.0.0.1:{settings.gateway_port}"


def _welcome(settings: NativeSettings, key: str, timings: Timings, console: Console) -> None:
    console.plain(
        f"\nFirst answer {timings.first_answer_s:.0f} s after the command, "
        f"{settings.setup_s:.0f} s of them for setting up.\n\n"
        f"  page       {_gateway(settings)}/#key={key}\n"
        f"  base_url   {_gateway(settings)}/v1\n"
        f"  api_key    {key}\n"
        f"  models     docs (cited answers), {LLM}{f', {ASSISTANT}' if settings.adapter else ''}\n"
        f'  ask        make ask Q="How do I create a VPC?"\n'
        f"  logs       {settings.state / 'logs'}\n\n"
        "Vectors are computed in the background; until then answers rest on BM25. Ctrl-C stops."
    )

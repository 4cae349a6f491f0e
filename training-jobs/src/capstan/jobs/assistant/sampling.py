"""Answers from any OpenAI-compatible server, and a worker of our own with LoRA adapters to ask."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx2

from capstan.jobs.assistant.errors import AssistantError

BASE = "base"
"""The base model's name at a worker that is started here; adapters have their own."""
PYTHON = "CAPSTAN_NATIVE_WORKER_PYTHON"
_ROOT = Path(__file__).parents[5]
_START_S, _STOP_S = 600.0, 60.0
_TRIES = 8
"""Times that a busy server is asked again."""
Sleep = Callable[[float], None]


class Asked(Protocol):
    """What can be asked: an item, or a pair for the judge."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def messages(self) -> Sequence[Mapping[str, str]]:
        """The chat, the user's message last."""


def base_url(url: str) -> str:
    """A server's address without a `/v1` at its end: both forms are in use."""
    return url.rstrip("/").removesuffix("/v1")


def complete(
    url: str,
    model: str,
    items: Sequence[Asked],
    *,
    temperature: float = 0.0,
    max_tokens: int = 128,
    n: int = 1,
    seed: int = 0,
    concurrency: int = 16,
    key: str | None = None,
    sleep: Sleep = time.sleep,
) -> Iterator[tuple[str, list[str]]]:
    """`n` answers to each item, with its id, in the order in which they come.

    A busy server (429, 503) is asked again after what it says. Raises `AssistantError` if it refuses or stays away.
    """
    options: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = httpx2.Timeout(600.0, connect=5.0)
    with (
        httpx2.Client(base_url=base_url(url), headers=headers, timeout=timeout, trust_env=False) as client,
        ThreadPoolExecutor(concurrency) as pool,
    ):

        def ask(item: Asked) -> list[str]:
            body = {"model": model, "messages": list(item.messages), **options, **({"n": n} if n > 1 else {})}
            return _texts(_post(client, body, sleep))

        waiting = {pool.submit(ask, item): item.id for item in items}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _post(client: httpx2.Client, body: Mapping[str, Any], sleep: Sleep) -> Any:
    for attempt in range(_TRIES):
        try:
            response = client.post("/v1/chat/completions", json=body)
        except httpx2.HTTPError as error:
            problem = f"{client.base_url} does not answer ({type(error).__name__}); is it running?"
            raise AssistantError(problem) from None
        if response.is_success:
            return response.json()
        if response.status_code not in (429, 503):
            break
        sleep(_seconds(response.headers.get("retry-after"), 1.0 + attempt))
    raise AssistantError(f"{client.base_url} answered {response.status_code} for {body['model']}: {_reason(response)}")


def _texts(answer: Any) -> list[str]:
    try:
        return [choice["message"]["content"] or "" for choice in answer["choices"]]
    except (KeyError, TypeError) as error:
        raise AssistantError(f"the server's answer is no chat completion ({type(error).__name__}: {error})") from None


def _seconds(text: str | None, otherwise: float) -> float:
    try:
        return float(text or otherwise)
    except ValueError:  # a date
        return otherwise


def _reason(response: httpx2.Response) -> str:
    try:
        return " ".join(str(response.json()["error"]["message"]).split())[:300]
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase or "no reason given"


@dataclass(frozen=True, slots=True)
class Worker:
    """A running worker: its URL, and its process, which leads a group."""

    url: str
    pid: int


@contextlib.contextmanager
def worker(
    model: str, adapters: Mapping[str, Path], *, log: Path, served_name: str = BASE, sleep: Sleep = time.sleep
) -> Iterator[Worker]:
    """A worker with `model` (a model reference) and LoRA adapters by name, stopped at the end of the block.

    Raises `AssistantError` with its last line if it does not start; all lines are in `log`.
    """
    python = os.environ.get(PYTHON)
    if not python:
        raise AssistantError(
            f"{PYTHON} is not set, so no worker can be started: run this through native/bootstrap.py, or give --url"
        )
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = {"PORT": port, "MODEL": model, "SERVED_MODEL_NAME": served_name, **_lora(adapters)}
    environment = {**os.environ, **{f"CAPSTAN_WORKER_{name}": str(value) for name, value in settings.items()}}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [python, "-m", "capstan.worker"],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us: we stop it
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(process, url, log, sleep)
        yield Worker(url, process.pid)
    finally:
        _stop(process)


def _lora(adapters: Mapping[str, Path]) -> dict[str, object]:
    if not adapters:
        return {}
    rank = max(rank_of(path) for path in adapters.values())
    references = ",".join(f"{name}=file:{path.absolute()}" for name, path in adapters.items())
    return {"ADAPTERS": references, "LORA_SLOTS": len(adapters), "MAX_LORA_RANK": max(16, 1 << (rank - 1).bit_length())}


def rank_of(adapter: Path) -> int:
    """The rank in an adapter's configuration. Raises `AssistantError`."""
    try:
        return int(json.loads((adapter / "adapter_config.json").read_text())["r"])
    except (OSError, ValueError, KeyError) as error:
        raise AssistantError(f"{adapter} holds no LoRA adapter ({error}); train it first") from None


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path, sleep: Sleep) -> None:
    waited = 0.0
    while not _healthy(url):
        if process.poll() is not None or waited > _START_S:
            *_, last = ["it said nothing", *log.read_text(errors="replace").splitlines()]
            raise AssistantError(f"the worker did not start ({last[:300]}); all it said is in {log}")
        sleep(0.5)
        waited += 0.5


def _healthy(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health", timeout=2, trust_env=False).is_success
    except httpx2.TransportError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and whatever it may have left behind
        process.wait()

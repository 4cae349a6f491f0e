"""Retrievers and rerankers with the recipe's settings: started here on free ports, or given by URL."""

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx2

from capstan.jobs.corpus.progress import Steps
from capstan.jobs.evaluate.client import Reranker, Retriever
from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.indexes import fill, made_of
from capstan.jobs.evaluate.recipe import Recipe, ServiceSettings
from capstan.jobs.evaluate.rows import key_of

PYTHON = "CAPSTAN_NATIVE_SERVICES_PYTHON"
_ROOT = Path(__file__).parents[5]
_START_S = 180.0


class Services:
    """The services of a recipe, by name; each is started when it is first asked, and stopped at the end.

    `urls` maps `retriever/NAME` and `reranker/NAME` to services that run already. An index is built once: its directory
    is named after what it is made of, and the next run opens it as it is.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Path,
        cache: Path,
        secret: str,
        urls: Mapping[str, str],
        steps: Steps,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._recipe = recipe
        self._corpus = corpus
        self._cache = cache
        self._secret = secret
        self._urls = {name: url.rstrip("/") for name, url in urls.items()}
        self._steps = steps
        self._sleep = sleep
        self._processes: list[subprocess.Popen[bytes]] = []
        self._retrievers: dict[str, Retriever] = {}
        self._rerankers: dict[str, Reranker] = {}

    def __enter__(self) -> "Services":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()
        for client in (*self._retrievers.values(), *self._rerankers.values()):
            client.close()

    def retriever(self, name: str) -> Retriever:
        """The retriever with the settings of an index, its corpus loaded and embedded. Raises `EvaluateError`."""
        if name not in self._retrievers:
            url = self._urls.get(f"retriever/{name}") or self._started_retriever(name)
            self._retrievers[name] = Retriever(url, self._secret, sleep=self._sleep)
        return self._retrievers[name]

    def reranker(self, name: str) -> Reranker:
        """The reranker with these settings. Raises `EvaluateError`."""
        if name not in self._rerankers:
            settings = self._recipe.rerankers[name].settings
            url = self._urls.get(f"reranker/{name}") or self._start("reranker", name, settings)
            self._rerankers[name] = Reranker(url, self._secret, sleep=self._sleep)
        return self._rerankers[name]

    def retriever_fingerprint(self, name: str) -> str:
        """What this retriever's answers depend on: settings, corpus and code; the state of one given by URL."""
        if f"retriever/{name}" in self._urls:
            state = self.retriever(name).index()
            return key_of([state[key] for key in ("documents", "chunks", "embedded", "model")], _code_of("retriever"))
        return key_of(made_of(self._recipe.indexes[name], self._corpus), _code_of("retriever"))

    def reranker_fingerprint(self, name: str) -> str:
        """What this reranker's scores depend on: settings, code and shipped models; or what one by URL says it is."""
        if f"reranker/{name}" in self._urls:
            return key_of(self.reranker(name).models(), _code_of("reranker"))
        settings = self._recipe.rerankers[name].settings
        return key_of(settings, _code_of("reranker"), _model_of(settings))

    def _started_retriever(self, name: str) -> str:
        index = self._recipe.indexes[name]
        content = made_of(index, self._corpus)
        directory = self._cache.absolute() / "indexes" / f"{name}-{key_of(content)[:12]}"
        url = self._start("retriever", name, {**index.settings, "data_dir": str(directory)})
        with contextlib.closing(Retriever(url, self._secret, sleep=self._sleep)) as retriever:
            fill(name, index, retriever, self._corpus, self._cache, self._secret, self._steps, self._sleep)
        return url

    def _start(self, kind: str, name: str, settings: ServiceSettings) -> str:
        """The URL of a process that is ready."""
        python = os.environ.get(PYTHON)
        if not python:
            raise EvaluateError(
                f"{PYTHON} is not set, so no {kind} can be started: run this through native/bootstrap.py, or give the "
                f"URL of one with --{kind} {name}=URL"
            )
        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        values = {**settings, "port": port}
        own = {f"CAPSTAN_{kind.upper()}_{key.upper()}": _as_text(value) for key, value in values.items()}
        environment = {**os.environ, "CAPSTAN_IDENTITY_SECRET": self._secret, **own}
        log = self._cache / "logs" / f"{kind}-{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            command = [python, "-m", f"capstan.{kind}"]
            process = subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
        self._processes.append(process)
        url = f"http://127.0.0.1:{port}"
        waited = 0.0
        while not _ready(url):
            if process.poll() is not None or waited > _START_S:
                *_, last = ["it said nothing", *log.read_text(errors="replace").splitlines()]
                raise EvaluateError(f"the {kind} {name} did not start: {last}")
            self._sleep(0.2)
            waited += 0.2
        return url


def _code_of(kind: str) -> str:
    """Hash of a service's files in this checkout."""
    return _hash_of(_ROOT / "services" / kind / "src")


def _model_of(settings: ServiceSettings) -> str:
    """Hash of a model that lies in a directory, named from the repository's root on as the service sees it."""
    kind, _, path = str(settings.get("model", "")).partition(":")
    return _hash_of(_ROOT / path) if kind == "file" else ""


def _hash_of(directory: Path) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _as_text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", timeout=2, trust_env=False).is_success
    except httpx2.TransportError:
        return False

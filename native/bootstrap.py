"""Prepares this machine for Capstan without containers, then runs a command in the prepared environment.

Runs on a bare Python 3.11+ (standard library only). Each environment is a venv keyed by the hash of
what it holds, kept in the cache directory and shared by all checkouts, so that only the first start pays.

    python3 native/bootstrap.py run|ask|smoke|test|…   (see the Makefile)
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(
    os.environ.get("CAPSTAN_CACHE_DIR") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "capstan"
)
SOURCES = [*sorted(ROOT.glob("services/*/src")), ROOT / "training-jobs/src", ROOT / "native/src"]
TORCH_INDEX = "TORCH_INDEX_URL"


class SetupError(Exception):
    """Something the user has to change; the message says what."""


@dataclass(frozen=True)
class Environment:
    """A venv: requirement files, installed one after the other; `on` names environments it builds upon."""

    name: str
    requirements: tuple[str, ...]
    on: tuple[str, ...] = ()
    check: str = ""
    """Python code that fails when the environment cannot work on this machine."""


_SERVICES = ("gateway", "generator", "retriever", "reranker")
_TORCH_CHECK = "import torch"
_TORCH = ("services/retriever/requirements-torch.txt", "services/reranker/requirements-torch.txt")
_SERVICES_TORCH = _TORCH if os.environ.get("WITH_TORCH") else ()
ENVIRONMENTS = {
    e.name: e
    for e in (
        Environment(
            "services",
            (*(f"services/{name}/requirements.txt" for name in _SERVICES), *_SERVICES_TORCH),
            check=_TORCH_CHECK if _SERVICES_TORCH else "",
        ),
        Environment(
            "worker",
            ("services/vllm-worker/requirements.txt", "services/vllm-worker/requirements-engine.txt"),
            check=_TORCH_CHECK,
        ),
        Environment("jobs", ("training-jobs/requirements/corpus.txt", "training-jobs/requirements/evaluate.txt")),
        Environment(
            "training",
            ("training-jobs/requirements/reranker.txt", *_TORCH),
            on=("services", "jobs"),
            check=_TORCH_CHECK,
        ),
        Environment(
            "pretrain",
            ("training-jobs/requirements/pretrain.txt",),
            on=("training", "services", "jobs"),
            check=_TORCH_CHECK,
        ),
        Environment(
            "assistant",
            ("training-jobs/requirements/assistant.txt",),
            on=("pretrain", "training", "services", "jobs"),
            check=_TORCH_CHECK,
        ),
        Environment("compiler", ("native/requirements-compiler.txt",), on=("services",)),
        Environment("ragas", ("training-jobs/requirements/ragas.txt",)),
        Environment("peers-rag", ("training-jobs/requirements/peers-rag.txt",), check=_TORCH_CHECK),
        Environment("peers", ("loadtest/requirements-peers.txt",)),
        Environment("peers-litellm", ("loadtest/requirements-peers-litellm.txt",)),
        Environment("locust", ("loadtest/requirements-locust.txt",)),
        Environment("supply-chain", ("native/requirements-supply-chain.txt",)),
        Environment("plots", ("loadtest/requirements-plots.txt",), on=("services",)),
        Environment("vllm-bench", ("loadtest/requirements-vllm-bench.txt",), on=("worker",)),
        Environment("quantize", ("loadtest/requirements-quantize.txt",), on=("worker",), check=_TORCH_CHECK),
        Environment(
            "dev",
            ("native/requirements-dev.txt",),
            on=("services", "jobs", "training", "pretrain", "assistant"),
            check=_TORCH_CHECK,
        ),
    )
}
PEERS = ("peers", "peers-litellm") if os.environ.get("PEERS") == "all" else ("peers",)
"""Environments of the gateways that bench-gateway compares with."""


@dataclass(frozen=True)
class Command:
    """What a command needs, and what runs it: an interpreter, and its arguments before the user's."""

    needs: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    documents: bool = False
    python: str = "services"
    compiled: bool = False
    """Whether the gateway's request path is compiled for it."""


_STACK = ("services", "worker", "jobs")
COMMANDS = {
    "build": Command(_STACK, documents=True),
    "run": Command(_STACK, ("-m", "capstan.native", "run"), documents=True),
    "smoke": Command(_STACK, ("-m", "capstan.native", "smoke"), documents=True),
    "ask": Command(("services",), ("-m", "capstan.native", "ask")),
    "eval-rag": Command((*_STACK, "ragas"), ("-m", "capstan.native", "evaluate"), documents=True),
    "eval-assistant-rag": Command(_STACK, ("-m", "capstan.native", "evaluate-assistant"), documents=True),
    "evaluate": Command(("services", "jobs"), ("-m", "capstan.jobs.evaluate"), documents=True, python="jobs"),
    "worker": Command(("worker",), ("-m", "capstan.worker"), python="worker"),
    "simulated-worker": Command(("services",), ("-m", "capstan.worker", "--simulate")),
    "labels": Command(
        ("jobs",),
        ("-m", "capstan.jobs.labels", "build", "--out", "training-jobs/labels"),
        documents=True,
        python="jobs",
    ),
    "bench-rag": Command(
        ("services", "jobs", "peers-rag"), ("-m", "loadtest.rag_bench"), documents=True, python="jobs"
    ),
    "reranker": Command(
        ("services", "jobs", "training"), ("-m", "capstan.jobs.reranker"), documents=True, python="training"
    ),
    "pretrain": Command(
        ("services", "jobs", "training", "pretrain"), ("-m", "capstan.jobs.pretrain"), documents=True, python="pretrain"
    ),
    "assistant": Command(
        (*_STACK, "training", "pretrain", "assistant"),
        ("-m", "capstan.jobs.assistant"),
        documents=True,
        python="assistant",
    ),
    "bench-gateway": Command(("services", "compiler", *PEERS), ("-m", "loadtest.gateway_bench"), compiled=True),
    "loadtest": Command(("locust",), ("-m", "locust", "-f", "loadtest/locustfile.py"), python="locust"),
    "quantize": Command(("worker", "quantize"), ("-m", "capstan.jobs.quantize"), python="quantize"),
    "bench-llm": Command(
        ("services", "compiler", "worker", "peers-litellm", "vllm-bench", "plots"),
        ("-m", "loadtest.llm_bench"),
        python="plots",
        compiled=True,
    ),
    "bench-llm-report": Command(("services", "plots"), ("-m", "loadtest.llm_bench.report"), python="plots"),
    "soak": Command((*_STACK, "compiler", "dev"), ("-m", "loadtest.llm_bench.soak"), python="dev", compiled=True),
    "bench-overload": Command(("services", "compiler", "peers"), ("-m", "loadtest.overload"), compiled=True),
    "audit": Command(("supply-chain",), ("-m", "capstan.native.supply_chain", "audit"), python="supply-chain"),
    "sbom": Command(
        ("services", "worker", "supply-chain"), ("-m", "capstan.native.supply_chain", "sbom"), python="supply-chain"
    ),
    "compiled": Command(("services", "compiler")),
    "python": Command((*_STACK, "dev"), python="dev"),  # the developers' interpreter, with every package but vLLM's
}

_say_lock = threading.Lock()
_started = time.monotonic()


def say(text: str) -> None:
    """One line of progress, with the seconds since the start."""
    with _say_lock:
        print(f"[{time.monotonic() - _started:5.0f} s] {text}", flush=True)


def directory(environment: Environment) -> Path:
    """Where the environment lives: its name and the hash of everything that went into it."""
    digest = hashlib.sha256(sys.version.encode())
    for name in environment.requirements:
        digest.update((ROOT / name).read_bytes())
    for base in environment.on:
        digest.update(str(directory(ENVIRONMENTS[base])).encode())
    return CACHE / "envs" / f"{environment.name}-{digest.hexdigest()[:16]}"


def python_of(name: str) -> Path:
    """The interpreter of a named environment."""
    return directory(ENVIRONMENTS[name]) / "bin/python"


def variable_of(name: str) -> str:
    """The environment variable that holds an environment's interpreter."""
    return f"CAPSTAN_NATIVE_{name.upper().replace('-', '_')}_PYTHON"


def ensure(name: str) -> Path:
    """Build the environment if it is not there yet. Raises `SetupError`."""
    environment = ENVIRONMENTS[name]
    for base in environment.on:
        ensure(base)
    target = directory(environment)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another checkout may be building the same one
        if not (target / "complete").exists():
            _build(environment, target)
    return target / "bin/python"


def _build(environment: Environment, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)  # an interrupted build
    log = target.parent / f"{environment.name}.log"
    began = time.monotonic()
    say(f"{environment.name} environment: installing (first time only; log: {log})")
    with log.open("w") as output:
        _run([sys.executable, "-m", "venv", str(target)], output, environment.name, log, began)
        python = str(target / "bin/python")
        pip = [python, "-m", "pip", "install", "--no-deps", "--no-input", "--no-compile", "--progress-bar", "off"]
        if index := os.environ.get(TORCH_INDEX):
            pip += ["--extra-index-url", index]
        for requirements in environment.requirements:  # one by one: a file may be in pip's hash-checking mode
            _run([*pip, "-r", str(ROOT / requirements)], output, environment.name, log, began)
        _build_upon(environment, target)
        if environment.check:
            _check(environment, python, output)
    (target / "complete").touch()
    say(f"{environment.name} environment: ready after {time.monotonic() - began:.0f} s")


def _build_upon(environment: Environment, target: Path) -> None:
    """Let the environment see its bases' packages behind its own."""
    places = [str(_site_packages(directory(ENVIRONMENTS[base]))) for base in environment.on]
    (_site_packages(target) / "capstan-bases.pth").write_text("\n".join(places) + "\n")


def _site_packages(venv: Path) -> Path:
    return venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _check(environment: Environment, python: str, output: object) -> None:
    if subprocess.run([python, "-c", environment.check], stdout=output, stderr=output).returncode:
        raise SetupError(
            f"the {environment.name} environment has a PyTorch that does not run here: "
            f"set {TORCH_INDEX} to PyTorch's index of CPU wheels and run this again"
        )


def _run(command: list[str], output: object, what: str, log: Path, began: float) -> None:
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    while True:
        try:
            status = process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            say(f"{what} environment: still installing ({time.monotonic() - began:.0f} s)")
        else:
            break
    if status:
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-3:]
        raise SetupError(f"the {what} environment could not be installed; the end of {log}:\n  " + "\n  ".join(last))


def compiled_gateway() -> Path:
    """The gateway with its request path compiled, kept by the hash of its sources. Raises `SetupError`."""
    digest = hashlib.sha256(str(directory(ENVIRONMENTS["compiler"])).encode())
    script = ROOT / "services/gateway/compile.py"
    for path in (script, *_sources("services/gateway/src"), *_sources("services/common/src")):
        digest.update(path.read_bytes())
    out = CACHE / "compiled" / f"gateway-{digest.hexdigest()[:16]}"
    if not out.exists():
        say("gateway: compiling (about a minute)")
        if subprocess.run([str(ensure("compiler")), str(script), "--out", str(out)]).returncode:
            raise SetupError("the gateway could not be compiled; see the lines above")
    return out


def _sources(folder: str) -> list[Path]:
    return sorted(path for pattern in ("*.py", "*.lua") for path in (ROOT / folder).rglob(pattern))


def build_corpus() -> None:
    """Build the documents (a no-op when they are current). Raises `SetupError`."""
    command = [str(python_of("jobs")), "-m", "capstan.jobs.corpus", "build", "--out", str(corpus_directory())]
    if source := os.environ.get("SOURCE"):
        command += ["--source", str(Path(source).expanduser().absolute())]
    else:
        command += ["--recipe", str(ROOT / "training-jobs/recipes/corpus.yaml")]
    if subprocess.run(command, env=process_environment(), stdin=subprocess.DEVNULL).returncode:
        raise SetupError("the documents could not be prepared; see the lines above")


def corpus_directory() -> Path:
    """Where the documents lie: one place for the recipe's, one for each folder of the user's own."""
    source = os.environ.get("SOURCE")
    if not source:
        return CACHE / "corpus" / "recipe"
    resolved = str(Path(source).expanduser().absolute())
    return CACHE / "corpus" / f"source-{hashlib.sha256(resolved.encode()).hexdigest()[:12]}"


def process_environment(environments: Sequence[str] = ()) -> dict[str, str]:
    """The environment in which every part runs: sources on the path, interpreters and directories by name."""
    named = {*_STACK, *environments} - {"dev", "compiler", "training", "pretrain", "assistant"}
    names = {variable_of(name): str(python_of(name)) for name in sorted(named)}
    return {
        **os.environ,
        **names,
        "PYTHONPATH": os.pathsep.join(map(str, SOURCES)),
        "MYPYPATH": os.pathsep.join(map(str, SOURCES)),
        "PYTHONUNBUFFERED": "1",
        "CAPSTAN_CACHE_DIR": str(CACHE),
        "CAPSTAN_NATIVE_ROOT": str(ROOT),
        "CAPSTAN_NATIVE_CORPUS_DIR": str(corpus_directory()),
    }


def prepare(environments: list[str], *, documents: bool) -> None:
    """Build environments, and the documents as soon as their job can run, side by side. Raises `SetupError`."""
    with ThreadPoolExecutor() as pool:
        pending = [pool.submit(ensure, name) for name in environments if name != "jobs"]
        if "jobs" in environments:
            ensure("jobs")
        if documents:
            build_corpus()
        for future in pending:
            future.result()


def main() -> None:
    """Prepare what the command needs, then become it."""
    name, *arguments = sys.argv[1:] or ["help"]
    if name not in COMMANDS:
        print(__doc__)
        sys.exit(2)
    if sys.version_info < (3, 11):  # noqa: UP036 - a newcomer may have an older one
        raise SetupError(
            f"Capstan needs Python 3.11 or newer, this is {sys.version.split()[0]}: run make PYTHON=python3.11 …"
        )
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupError("this Python cannot make virtual environments: install them first (apt install python3-venv)")
    command = COMMANDS[name]
    prepare(list(command.needs), documents=command.documents)
    if name == "build":
        say("everything is installed: 'make run' starts the stack")
        return
    if name == "compiled":
        print(compiled_gateway())
        return
    variables = process_environment(command.needs)
    variables["CAPSTAN_NATIVE_SETUP_S"] = f"{time.monotonic() - _started:.1f}"
    if command.compiled:
        variables["CAPSTAN_NATIVE_SOURCES"] = variables["PYTHONPATH"]
        variables["PYTHONPATH"] = os.pathsep.join([str(compiled_gateway()), variables["PYTHONPATH"]])
    argv = [str(python_of(command.python)), *command.arguments, *arguments]
    os.execve(argv[0], argv, variables)  # noqa: S606 - become the command


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped; what was installed stays and is reused", file=sys.stderr)
        sys.exit(130)

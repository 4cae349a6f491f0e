"""`make eval-rag`, `make eval-assistant-rag`: start the stack, wait for its vectors, let the evaluation job ask it."""

import asyncio
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import httpx2

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.native.console import Console
from capstan.native.run import Timings, with_stack
from capstan.native.settings import NativeSettings
from capstan.native.stack import LLM, StackError, adapter_directory, api_key, identity_secret
from capstan.native.supervisor import Supervisor

ARTIFACT = Path("training-jobs/artifacts/assistant")
JUDGED_QUESTIONS = 10
"""As many as a judge of 135M parameters on two cores answers in a quarter of an hour."""


MIN_RELEVANCE = 0.858
"""Where abstention is measured: what `calibrate` recommends on dev, if an abstention is right when no gold passage was
found. Stricter than the stack's own setting, which turns away what is off-topic."""


async def evaluate(settings: NativeSettings) -> int:
    """Answers, retrieval, RAGAS, and the report; the exit code."""
    if settings.ragas_python is None:
        raise StackError("CAPSTAN_NATIVE_RAGAS_PYTHON is not set: run this through make eval-rag")
    return await _evaluate(settings, _commands(settings))


async def evaluate_assistant(settings: NativeSettings) -> int:
    """The adapter and its base model as writers of cited answers; the exit code. By default, the adapter as shipped."""
    chosen = settings.model_copy(update={"adapter": settings.adapter or ARTIFACT})
    adapter = adapter_directory(chosen)
    assert adapter is not None
    return await _evaluate(chosen, [_writers(chosen, adapter)])


async def _evaluate(settings: NativeSettings, commands: Sequence[Sequence[str]]) -> int:
    """Run the commands against the stack, one after the other; the exit code."""
    console = Console(all_logs=settings.logs)

    async def work(_: Supervisor, __: Timings) -> int:
        await _until_embedded(settings, console)
        for number, command in enumerate(commands, start=1):
            console.say(f"evaluation, step {number} of {len(commands)}: {command[2]} {command[3]}")
            if status := await _run(command, settings):
                console.say(f"error: step {number} failed")
                return status
        return 0

    return await with_stack(settings, console, work)


def _commands(settings: NativeSettings) -> list[list[str]]:
    """What is run, one after the other; each leaves its part of docs/rag.md and docs/results."""
    gateway, retriever, reranker = (
        f"http://127.0.0.1:{port}" for port in (settings.gateway_port, settings.retriever_port, settings.reranker_port)
    )
    answers = settings.state / "answers"
    ask = ["--url", gateway, "--retriever", retriever, "--answers", str(answers), "--concurrency", "4"]
    ask += ["--options", json.dumps({"min_relevance": MIN_RELEVANCE})]
    ask += ["--documents", str(settings.corpus_dir / "documents.jsonl")]
    judge = ["--judge-url", f"{gateway}/v1", "--judge-model", LLM, "--judge-tokens", "512"]
    judge += ["--questions", str(JUDGED_QUESTIONS)]
    rows = ["--samples", str(answers / "samples.jsonl"), "--rows", str(answers / "ragas.jsonl")]
    out = ["--out", str(settings.root / "docs/results/ragas.json"), "--embeddings", retriever]
    job, ragas = str(settings.jobs_python), str(settings.ragas_python)
    package = "capstan.jobs.evaluate"
    return [
        [job, "-m", f"{package}.answer_quality", "score", *ask],
        [job, "-m", package, "run", "--retriever", f"default={retriever}", "--reranker", f"default={reranker}"],
        [ragas, "-m", f"{package}.ragas_card", *rows, *out, *judge],
        [job, "-m", f"{package}.answer_quality", "card"],
    ]


def _writers(settings: NativeSettings, adapter: Path) -> list[str]:
    """Asks both arms. Answers are kept apart for each adapter: all of them have one name."""
    weights = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()[:16]
    command = [str(settings.jobs_python), "-m", "capstan.jobs.evaluate.answer_quality", "writers"]
    command += ["--url", f"http://127.0.0.1:{settings.gateway_port}"]
    command += ["--retriever", f"http://127.0.0.1:{settings.retriever_port}"]
    command += ["--a", "docs:assistant", "--b", "docs:base", "--concurrency", "4"]
    command += ["--answers", str(settings.state / f"answers-{weights}")]
    return [*command, "--out", str(settings.root / "docs/results/assistant-rag.json")]


async def _run(command: Sequence[str], settings: NativeSettings) -> int:
    secrets = {
        "CAPSTAN_IDENTITY_SECRET": identity_secret(settings.state),
        "CAPSTAN_JOBS_API_KEY": api_key(settings),
        "CAPSTAN_JOBS_JUDGE_KEY": api_key(settings),
    }
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **secrets}, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    try:
        return await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise


async def _until_embedded(settings: NativeSettings, console: Console) -> None:
    """Dense search has to see every chunk before it is judged."""
    signer = Signer(identity_secret(settings.state))
    url = f"http://127.0.0.1:{settings.retriever_port}"
    async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        while True:
            header = {IDENTITY_HEADER: signer.sign(Identity("shared", "native"))}
            index = (await client.get("/v1/index", headers=header)).raise_for_status().json()
            if not index["pending"]:
                return
            console.say(f"embedding: {index['embedded']:,} of {index['chunks']:,} chunks")
            await asyncio.sleep(10)

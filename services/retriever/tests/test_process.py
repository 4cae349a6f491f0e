"""The service as a process, with the real encoder: durability, restart, start-up errors."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer

SECRET = "a test secret of more than thirty-two characters"
Start = Callable[..., tuple[subprocess.Popen[str], httpx2.Client]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    paths = [path for path in sys.path if path.endswith("src")]
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("CAPSTAN_") or k == "CAPSTAN_CACHE_DIR"},
        "PYTHONPATH": os.pathsep.join(paths),
        "CAPSTAN_IDENTITY_SECRET": SECRET,
        "CAPSTAN_RETRIEVER_DATA_DIR": str(tmp_path / "data"),
    }


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Start]:
    """Starts a retriever on a free port and returns when it is ready."""
    processes: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []

    def run(**changed: str) -> tuple[subprocess.Popen[str], httpx2.Client]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "capstan.retriever"]
        process = subprocess.Popen(
            command,
            env={**environment, **changed, "CAPSTAN_RETRIEVER_PORT": str(port)},
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        assert any("startup complete" in line for line in process.stdout)
        reader = threading.Thread(target=process.stdout.read)  # a full pipe would stop the process
        readers.append(reader)
        reader.start()
        headers = {IDENTITY_HEADER: Signer(SECRET).sign(Identity("a", "test"))}
        return process, httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60)

    yield run
    for process in processes:
        process.kill()
        process.wait()
    for reader in readers:
        reader.join()
    for process in processes:
        if process.stdout is not None:
            process.stdout.close()


def documents(*texts: str) -> dict[str, Any]:
    sections = [[{"heading": [], "text": text}] for text in texts]
    return {"documents": [{"id": f"d{n}", "title": "", "sections": s} for n, s in enumerate(sections)]}


def test_what_was_acknowledged_survives_a_kill_and_embedding_goes_on_after_it(start: Start) -> None:
    process, client = start()
    texts = [
        f"The {animal} lives in a {place}." for animal in ("fox", "owl", "eel", "ant") for place in ("den", "wood")
    ]
    with client:
        assert client.post("/v1/documents", json=documents(*texts)).status_code == 200
        process.send_signal(signal.SIGKILL)
        process.wait()
    process, client = start()
    with client:
        assert client.get("/readyz").status_code == 200
        found = client.post("/v1/search", json={"query": "owl", "mode": "bm25"}).json()["results"]
        assert {result["text"] for result in found} == {"The owl lives in a den.", "The owl lives in a wood."}
        while client.get("/v1/index").json()["pending"]:
            pass
        best = client.post("/v1/search", json={"query": "a nocturnal bird of prey", "mode": "dense"}).json()["results"]
        assert "owl" in best[0]["text"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_a_build_that_is_killed_goes_on_and_takes_over(start: Start) -> None:
    """Another view is another vector for each chunk; the old index answers until the new one is complete."""
    process, client = start()
    names = [f"{animal} number {n}" for n in range(50) for animal in ("fox", "owl", "eel", "ant", "bee", "cat")]
    batch = documents(*(f"The {name} lives in a wood and eats what it finds there." for name in names))["documents"]
    with client:
        for first in (0, 150):
            put = client.post("/v1/documents", json={"documents": batch[first : first + 150]})
            assert put.status_code == 200
        while client.get("/v1/index").json()["pending"]:
            pass
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0

    process, client = start(CAPSTAN_RETRIEVER_VIEW_TOKENS="64")
    with client:
        while not (building := client.get("/v1/index").json()["building"])["embedded"]:
            pass
        assert building["embedded"] < building["chunks"]
        assert client.delete("/v1/documents/d7").status_code == 200
        assert client.post("/v1/documents", json=documents("A new text on the first animal.")).status_code == 200
        process.send_signal(signal.SIGKILL)
        process.wait()

    process, client = start(CAPSTAN_RETRIEVER_VIEW_TOKENS="64")
    with client:
        query = {"query": "a nocturnal bird of prey", "mode": "dense", "limit": 5}
        while client.get("/v1/index").json()["building"]:
            assert len(client.post("/v1/search", json=query).json()["results"]) == 5
        index = client.get("/v1/index").json()
        assert (index["documents"], index["pending"]) == (299, 0)
        assert all("owl" in hit["text"] for hit in client.post("/v1/search", json=query).json()["results"])
        assert client.get("/v1/documents/d7").status_code == 404
        found = client.post("/v1/search", json={"query": "first animal", "mode": "bm25"}).json()["results"]
        assert [hit["document_id"] for hit in found if "new text" in hit["text"]] == ["d0"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"CAPSTAN_RETRIEVER_MODEL": "minilm"}, r"model reference 'minilm' is not one of"),
        ({"CAPSTAN_RETRIEVER_MODEL": "file:/nowhere"}, r"there is no such directory"),
        ({"CAPSTAN_RETRIEVER_CHUNK_TOKENS": "many"}, r"CAPSTAN_RETRIEVER_CHUNK_TOKENS: .*integer"),
        ({"CAPSTAN_RETRIEVER_CHUNKTOKENS": "9"}, r"unknown setting; did you mean CAPSTAN_RETRIEVER_CHUNK_TOKENS"),
        (
            {"CAPSTAN_RETRIEVER_CHUNKING": "window", "CAPSTAN_RETRIEVER_WINDOW_OVERLAP": "384"},
            r"WINDOW_OVERLAP is 384; it must be less than CHUNK_TOKENS",
        ),
        ({"CAPSTAN_RETRIEVER_DATA_DIR": "/proc/nowhere"}, r"CAPSTAN_RETRIEVER_DATA_DIR"),
    ],
)
def test_a_mistake_in_the_settings_is_one_line_and_exit_code_2(
    environment: dict[str, str], changed: dict[str, str], said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "capstan.retriever"], env={**environment, **changed}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(said, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout

"""An OpenAI-compatible server, and a run's directory with small items and adapters."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from capstan.jobs.assistant.checkers import Verdict
from capstan.jobs.assistant.items import Item, write_items

Say = Callable[[dict[str, Any]], str]


@dataclass
class ModelServer:
    """Answers chat completions with what `say` makes of a request's body; `refusals` come first, in turn."""

    url: str = ""
    say: Say = lambda body: f"{body['model']} heard {body['messages'][-1]['content']}"
    refusals: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        texts = [self.say(body)] * body.get("n", 1)
        return {"choices": [{"index": n, "message": {"content": text}} for n, text in enumerate(texts)]}

    def events(self, body: dict[str, Any]) -> Iterator[str]:
        words = self.say(body).split(" ")
        for word in words:
            yield json.dumps({"choices": [{"index": 0, "delta": {"content": f"{word} "}}]})
        yield json.dumps({"choices": [], "usage": {"completion_tokens": len(words)}})
        yield "[DONE]"


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # all that connect at a time are let in


@pytest.fixture
def server() -> Iterator[ModelServer]:
    model = ModelServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            model.bodies.append(body)
            model.keys.append(self.headers["authorization"])
            if model.refusals:
                status, headers, answer = model.refusals.pop(0)
                self._send(status, headers, json.dumps(answer))
            elif body.get("stream"):
                self._send(200, {}, "".join(f"data: {event}\n\n" for event in model.events(body)))
            else:
                self._send(200, {}, json.dumps(model.answer(body)))

        def _send(self, status: int, headers: dict[str, str], text: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(text.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    listening = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    model.url = f"http://127.0.0.1:{listening.server_address[1]}"
    yield model
    listening.shutdown()
    thread.join()
    listening.server_close()


def make_item(number: int, kind: Any = "option") -> Item:
    messages = ({"role": "user", "content": f"Which option of tool {number}?"},)
    return Item(f"i{number}", kind, f"manual:{number}", messages, f"--answer-{number}", {})


def judge_by_reference(item: Item, answer: str) -> Verdict:
    """Passes where the reference is in the answer: these tests are not about the checkers."""
    exact = answer == item.reference
    return Verdict(item.reference in answer, exact, "ok" if item.reference in answer else "other option")


@pytest.fixture
def item() -> Callable[..., Item]:
    return make_item


@pytest.fixture
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty items to choose on, sixty to measure on; adapters of SFT and of two variants of DPO."""
    monkeypatch.setattr("capstan.jobs.assistant.scores.check", judge_by_reference)
    out = tmp_path / "run"
    (out / "data").mkdir(parents=True)
    write_items(out / "data/train.jsonl", [make_item(n) for n in range(1000, 1003)])
    write_items(out / "data/validation.jsonl", [make_item(n) for n in range(100, 140)])
    write_items(out / "data/test.jsonl", [make_item(n, "option" if n % 2 else "git") for n in range(60)])
    for name in ("sft", "dpo-mild", "dpo-bold"):
        (out / "adapters" / name).mkdir(parents=True)
        (out / "adapters" / name / "adapter_config.json").write_text('{"r": 16}')
        (out / "adapters" / name / "adapter_model.safetensors").write_bytes(name.encode())
    return out

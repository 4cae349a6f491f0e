"""Arms, and their greedy answers to items: asked once, kept, and asked anew when weights or items change."""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capstan.jobs.assistant.evaluation_plan import Evaluation
from capstan.jobs.assistant.items import Item
from capstan.jobs.assistant.sampling import BASE, complete, worker
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.evaluate.rows import Rows, key_of

SFT = "sft"
_DPO = "dpo-"


@dataclass(frozen=True, slots=True)
class Arm:
    """A model to compare: its name at the server, what it stands for, and its adapter's directory, if it has one."""

    name: str
    weights: str
    adapter: Path | None = None

    @property
    def is_dpo(self) -> bool:
        """Whether it was trained on preferences."""
        return self.name.startswith(_DPO)


def arms_in(adapters: Path, base: str) -> list[Arm]:
    """The base model, and the adapters that lie in a directory: SFT first, then each variant of DPO."""
    found = [path for path in adapters.glob("*") if (path / "adapter_config.json").is_file()]
    ordered = sorted(found, key=lambda path: (path.name != SFT, path.name))
    return [Arm(BASE, base), *(Arm(path.name, weights_of(path), path) for path in ordered)]


def weights_of(adapter: Path) -> str:
    """Hash of an adapter's weights and configuration."""
    digest = hashlib.sha256()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        digest.update((adapter / name).read_bytes())
    return digest.hexdigest()


@dataclass
class Server:
    """Where arms are asked: at `url`, or at a worker that is started when something is to be asked, and then stays."""

    base: str
    arms: Sequence[Arm]
    log: Path
    url: str | None = None
    key: str | None = None
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def reached(self) -> str:
        """Its URL. Raises `AssistantError` if a worker does not start."""
        if self.url is None:
            Steps().say("starting a worker (a minute or two)")
            adapters = {arm.name: arm.adapter for arm in self.arms if arm.adapter}
            self.url = self._open.enter_context(worker(self.base, adapters, log=self.log)).url
        return self.url


def answers(server: Server, arm: Arm, items: Sequence[Item], path: Path, plan: Evaluation) -> dict[str, str]:
    """An arm's answer to each item, by the item's id; those in the file are not asked again."""
    rows = Rows(path)
    keys = {item.id: key_of(item.messages, arm.name, arm.weights, plan.max_tokens) for item in items}
    missing = [item for item in items if rows.get(keys[item.id]) is None]
    if missing:
        url = server.reached()
        limits: dict[str, Any] = {"max_tokens": plan.max_tokens, "concurrency": plan.concurrency}
        with Steps().step(f"answers of {arm.name}", len(missing)) as advance:
            for name, (text,) in complete(url, arm.name, missing, key=server.key, **limits):
                rows.put(keys[name], {"id": name, "text": text})
                advance(1)
    return {item.id: (rows.get(keys[item.id]) or {})["text"] for item in items}

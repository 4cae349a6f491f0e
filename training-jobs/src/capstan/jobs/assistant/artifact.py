"""Artifacts: a directory with weights, a card and a manifest with every hash; complete or absent."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from capstan.jobs.assistant.base import ADAPTER, adapted
from capstan.jobs.corpus.package import sha256_of

MANIFEST = "manifest.json"
CARD = "README.md"
MADE_FROM = "made_from"


def write(directory: Path, fill: Callable[[Path], None], card: str, head: Mapping[str, Any]) -> None:
    """Replace `directory` by what `fill` writes, with a card and a manifest that begins with `head`."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".draft-") as scratch:
        draft = Path(scratch, "artifact")
        draft.mkdir()
        fill(draft)
        _seal(draft, card, head)
        if directory.exists():
            shutil.move(directory, Path(scratch, "before"))
        os.replace(draft, directory)


def recard(directory: Path, card: str) -> None:
    """Give an artifact another card; the rest stays."""
    head = manifest_of(directory)
    head.pop("files", None)
    _seal(directory, card, head)


def _seal(directory: Path, card: str, head: Mapping[str, Any]) -> None:
    """Write card and manifest of the files in a directory."""
    (directory / CARD).write_text(card, encoding="utf-8")
    (directory / MANIFEST).unlink(missing_ok=True)
    written = sorted(path for path in directory.iterdir() if path.is_file())
    files = {path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in written}
    part = directory / f"{MANIFEST}.part"
    part.write_text(json.dumps({**head, "files": files}, indent=1) + "\n")
    os.replace(part, directory / MANIFEST)


def manifest_of(directory: Path) -> dict[str, Any]:
    """The manifest of an artifact; empty without one."""
    path = directory / MANIFEST
    return json.loads(path.read_text()) if path.is_file() else {}


def is_made_from(directory: Path, identity: str) -> bool:
    """Whether the artifact is there and made of exactly this."""
    return bool(manifest_of(directory).get(MADE_FROM) == identity)


def save_adapter(model: Any, base: str, directory: Path) -> None:
    """The trained adapter alone, in bfloat16; its configuration names the base by reference, not by its place here."""
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16)
    model.peft_config[ADAPTER].base_model_name_or_path = base
    model.save_pretrained(str(directory), selected_adapters=[ADAPTER], save_embedding_layers=False)


def save_merged(base: Any, adapter: Path, tokenizer: Any, directory: Path) -> None:
    """The adapter added to the base model's weights, in 32 bits, and rounded once: a checkpoint of its own."""
    merged = adapted(base.float(), adapter).merge_and_unload().to(torch.bfloat16)
    merged.config.dtype = torch.bfloat16
    merged.save_pretrained(directory)
    tokenizer.save_pretrained(directory)

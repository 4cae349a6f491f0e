"""The manifest: what the corpus is made of, what was left out, and the hashes that prove both."""

import hashlib
import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from capstan.extract import rules
from capstan.jobs.corpus.clean import Dropped
from capstan.jobs.corpus.documents import Document
from capstan.jobs.corpus.package import Package
from capstan.jobs.corpus.recipe import Source

DOCUMENTS = "documents.jsonl"
MANIFEST = "manifest.json"
_PARSERS = ("docutils", "markdown-it-py", "mdit-py-plugins", "pypdf", "selectolax")


def tools() -> dict[str, str]:
    """What the text depends on besides its sources: this job's code and the parsers."""
    code = hashlib.sha256()
    for package in (Path(__file__).parent, Path(rules.__file__).parent):
        for path in sorted(package.glob("*.py")):
            code.update(path.read_bytes())
    return {"corpus": code.hexdigest()[:16], **{name: version(name) for name in _PARSERS}}


def source_entry(
    name: str, documents: list[Document], dropped: Counter[Dropped], origin: dict[str, str]
) -> dict[str, Any]:
    """The manifest's entry for one package or folder."""
    return {
        "name": name,
        **origin,
        "documents": len(documents),
        "sections": sum(len(d.sections) for d in documents),
        "characters": sum(d.characters for d in documents),
        "dropped": {reason.value: dropped[reason] for reason in Dropped if dropped[reason]},
    }


def package_origin(package: Package, source: Source) -> dict[str, str]:
    """Where a package's documents come from and on what terms."""
    texts = sorted(package.root.glob(source.license_file))
    where = texts[0].relative_to(package.root).as_posix() if texts else source.license_file
    return {
        "version": package.version,
        "archive": package.archive,
        "sha256": package.sha256,
        "license": source.license,
        "license_file": where,
    }


def summary(sources: list[dict[str, Any]]) -> dict[str, Any]:
    """Totals over the sources."""
    dropped: Counter[str] = Counter()
    for source in sources:
        dropped.update(source["dropped"])
    totals = {key: sum(source[key] for source in sources) for key in ("documents", "sections", "characters")}
    return {**totals, "dropped": dict(sorted(dropped.items()))}


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """The manifest of a finished corpus; None if there is none or it is not one."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def dump(manifest: dict[str, Any]) -> bytes:
    """The manifest as it is written."""
    return json.dumps(manifest, ensure_ascii=False, indent=2).encode() + b"\n"

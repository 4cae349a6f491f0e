"""What there is to extract: the files of a package or of a user's folder."""

import fnmatch
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from capstan.extract.man import alias_of
from capstan.extract.rules import SUFFIXES, Format, PageRules
from capstan.jobs.corpus.clean import Dropped
from capstan.jobs.corpus.documents import document_id
from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.package import Package
from capstan.jobs.corpus.recipe import Source

FOLDER_LICENSE = "LicenseRef-own-documents"
_SKIPPED_DIRECTORIES = frozenset(["node_modules", "__pycache__"])


@dataclass(frozen=True, slots=True)
class Item:
    """One file to extract. `name` is its path without suffix below the root of its source."""

    path: Path
    kind: Format
    id: str
    name: str
    url: str
    source: str
    license: str
    rules: PageRules


@dataclass(slots=True)
class Listing:
    """The files of one source to extract, and how many were left out for which reason."""

    source: str
    items: list[Item] = field(default_factory=list)
    dropped: Counter[Dropped] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)


def list_package(package: Package, source: Source) -> Listing:
    """The pages of a package that its recipe entry asks for. Raises `CorpusError` if its root is not there."""
    listing = Listing(package.name)
    roots = sorted(path for path in package.root.glob(source.root) if path.is_dir() and not path.is_symlink())
    if not roots:
        raise CorpusError(f"package {package.name} has no directory {source.root}; correct its root in the recipe")
    for root in roots:
        for path in _walk(root):
            relative = path.relative_to(root).as_posix()
            if not _matches(relative, source.include):
                continue
            if path.is_symlink() or (source.format == "man" and alias_of(path)):
                listing.dropped[Dropped.ALIAS] += 1
            elif _matches(relative, source.labels):
                listing.dropped[Dropped.LABEL] += 1
            elif _matches(relative, source.exclude):
                listing.dropped[Dropped.EXCLUDED] += 1
            else:
                listing.items.append(_package_item(package, source, path, relative))
    return listing


def list_folder(folder: Path) -> Listing:
    """The documents in a user's folder, at any depth. Hidden files are left alone. Raises `CorpusError`."""
    if not folder.exists():
        raise CorpusError(f"source folder {folder} does not exist")
    if not folder.is_dir():
        raise CorpusError(f"source {folder} is a file; name the folder that holds it")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise CorpusError(f"source folder {folder} cannot be read; check its permissions")
    folder = folder.resolve()
    listing = Listing(_printable(folder.name) or "documents")
    for path in _walk(folder):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or _SKIPPED_DIRECTORIES & set(relative.parts):
            continue
        shown = _printable(relative.as_posix())
        kind = SUFFIXES.get(path.suffix.lower())
        if kind is None:
            listing.dropped[Dropped.UNSUPPORTED] += 1
            listing.named.append(f"{shown}: no supported kind of file")
            continue
        listing.items.append(
            Item(
                path=path,
                kind=kind,
                id=document_id(listing.source, shown),
                name=shown.removesuffix(path.suffix),
                url=f"{listing.source}:{shown}",
                source=listing.source,
                license=FOLDER_LICENSE,
                rules=PageRules(),
            )
        )
    if not listing.items:
        raise CorpusError(f"source folder {folder} holds no html, md, rst, txt or pdf file")
    return listing


def _package_item(package: Package, source: Source, path: Path, relative: str) -> Item:
    name = relative.removesuffix(".gz")
    name = name.rpartition("/")[2] if source.format == "man" else name.rpartition(".")[0] or name
    return Item(
        path=path,
        kind=source.format,
        id=document_id(package.name, name),
        name=name,
        url=f"{package.name}:/{path.relative_to(package.root).as_posix()}",
        source=package.name,
        license=source.license,
        rules=source.pages,
    )


def _walk(root: Path) -> list[Path]:
    """Files and links to files below `root` in a stable order; links to directories are not followed."""
    names = (Path(directory) / name for directory, _, names in os.walk(root) for name in names if name[0] != ".")
    return sorted(path for path in names if path.is_file() or path.is_symlink())


def _matches(relative: str, globs: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(relative, glob) for glob in globs)


def _printable(name: str) -> str:
    """A file name as valid UTF-8, whatever bytes it is made of."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

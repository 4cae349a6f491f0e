"""The build: read FAQ pages, resolve their links, apply the rules, choose what is withheld, write."""

import fnmatch
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capstan.extract.formats import read_text
from capstan.extract.text import words
from capstan.jobs.corpus.apt import Apt
from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.manifest import DOCUMENTS, read_manifest
from capstan.jobs.corpus.package import sha256_of
from capstan.jobs.labels.entry import Entry
from capstan.jobs.labels.html import html_entries
from capstan.jobs.labels.known import heading_items, title_items
from capstan.jobs.labels.links import Known, Resolver, read_documents
from capstan.jobs.labels.pod import pod_entries
from capstan.jobs.labels.recipe import LabelRecipe, LabelSource, Limits

QUESTIONS = "questions.jsonl"
KNOWN_ITEMS = "known_items.jsonl"
MANIFEST = "manifest.json"
_ASKING = words(
    "how what why when where which who can could do does did is are was will would should may must if has have"
)


@dataclass(slots=True)
class _Label:
    record: dict[str, Any]
    documents: list[str]


@dataclass(slots=True)
class _Counts:
    """What happened to the questions of one source."""

    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def build_labels(recipe: LabelRecipe, corpus: Path, cache: Path, out: Path) -> dict[str, Any]:
    """Write the questions, the known items and the manifest, which is returned. The same inputs give the same bytes.

    Raises `CorpusError` if the corpus is not there or its packages are no longer in the cache.
    """
    built = read_manifest(corpus)
    if built is None or built.get("name") != recipe.corpus:
        raise CorpusError(f"{corpus} does not hold the corpus {recipe.corpus}; build it first")
    documents = read_documents(corpus)
    labels: list[_Label] = []
    sources = []
    for source in recipe.sources:
        origin = next((o for o in built["sources"] if fnmatch.fnmatchcase(o["name"], source.package)), None)
        if origin is None:
            raise CorpusError(f"the corpus in {corpus} has no package {source.package}, which the labels come from")
        counts = _Counts()
        found = _labels(recipe, source, origin, _unpacked(origin, cache), documents, counts)
        labels.extend(found)
        sources.append(_source_entry(source, origin, found, counts))
    _withhold(labels, recipe.limits)
    records = [label.record for label in labels]
    items = [*title_items(documents, recipe.known_items), *heading_items(documents)]
    out.mkdir(parents=True, exist_ok=True)
    _write(out / QUESTIONS, records)
    _write(out / KNOWN_ITEMS, items)
    manifest = {
        "corpus": recipe.corpus,
        "corpus_documents_sha256": sha256_of(corpus / DOCUMENTS),
        "recipe_sha256": hashlib.sha256(recipe.model_dump_json().encode()).hexdigest(),
        "questions_sha256": sha256_of(out / QUESTIONS),
        "known_items_sha256": sha256_of(out / KNOWN_ITEMS),
        "total": {**_totals(records), "known_items": dict(sorted(Counter(item["kind"] for item in items).items()))},
        "rules": _rules(recipe),
        "sources": sources,
    }
    text = json.dumps(manifest, ensure_ascii=False, indent=2)
    (out / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def _unpacked(origin: dict[str, Any], cache: Path) -> Path:
    archive = cache / "archives" / origin["archive"]
    if not archive.is_file():
        raise CorpusError(f"{archive} is gone from the cache; build the corpus again, which downloads it")
    return Apt(cache).unpack(archive)


def _labels(
    recipe: LabelRecipe,
    source: LabelSource,
    origin: dict[str, Any],
    package: Path,
    documents: dict[str, Known],
    counts: _Counts,
) -> list[_Label]:
    found: list[_Label] = []
    for split, pages in (("dev", source.dev), ("test", source.test)):
        for page in pages:
            path = next(iter(sorted(package.glob(f"{source.root}/{page}"))), None)
            if path is None:
                raise CorpusError(f"package {origin['name']} has no page {source.root}/{page}; correct the recipe")
            root = path.parents[page.count("/")]
            resolver = Resolver(documents, origin["name"], root, recipe.generic)
            for entry in _entries(source, read_text(path)):
                counts.read += 1
                pairs = list(dict.fromkeys(resolver.documents(page, entry.links)))
                gold = list(dict.fromkeys(document for document, _ in pairs))
                if reason := _verdict(entry, gold, recipe):
                    counts.dropped[reason] += 1
                    continue
                record = _record(entry, gold, pairs, source, recipe.limits)
                where = path.relative_to(package).as_posix()
                record |= {
                    "source": origin["name"],
                    "page": page,
                    "split": split,
                    "license": origin["license"],
                    "url": f"{origin['name']}:/{where}",
                }
                record["id"] = _unique(f"{page.rpartition('.')[0]}/{_slug(entry.heading)}", found)
                found.append(_Label(record, gold))
    return found


def _entries(source: LabelSource, text: str) -> list[Entry]:
    return list(pod_entries(text) if source.layout == "pod" else html_entries(text, source.layout, source.content))


def _verdict(entry: Entry, gold: list[str], recipe: LabelRecipe) -> str:
    """Why a question is not used; "" if it is."""
    limits = recipe.limits
    if not gold:
        return "no link into the corpus"
    if len(gold) > limits.max_documents:
        return "too many documents"
    if len(entry.heading.split()) < limits.min_words:
        return "heading too short"
    if any(fnmatch.fnmatchcase(entry.heading, pattern) for pattern in recipe.not_alone):
        return "not understandable alone"
    return "answer too short" if len(entry.answer) < limits.min_answer_characters else ""


def _record(
    entry: Entry, gold: list[str], pairs: list[tuple[str, str]], source: LabelSource, limits: Limits
) -> dict[str, Any]:
    answer = entry.answer
    if len(answer) > limits.max_answer_characters:
        answer = answer[: limits.max_answer_characters].rpartition(" ")[0] + " …"
    return {
        "id": "",
        "question": self_contained(entry.heading, source.product),
        "heading": entry.heading,
        "answer": answer,
        "documents": gold,
        "sections": [{"document": document, "heading": heading} for document, heading in pairs if heading],
    }


def self_contained(heading: str, product: str) -> str:
    """The heading as it reads without its page: "In Perl, how do I sort a hash?" where it does not name the product."""
    if re.search(rf"(?<!\w){re.escape(product)}(?!\w)", heading, re.IGNORECASE):
        return heading
    first, _, rest = heading.partition(" ")
    if re.split(r"\W", first)[0].casefold() in _ASKING:
        return f"In {'the ' if ' ' in product else ''}{product}, {first[0].lower()}{first[1:]} {rest}"
    return f"{product}: {heading}"


def _slug(heading: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", heading.casefold()))[:80].strip("-")


def _unique(name: str, before: list[_Label]) -> str:
    taken = {label.record["id"] for label in before}
    number = 2
    candidate = name
    while candidate in taken:
        candidate = f"{name}-{number}"
        number += 1
    return candidate


def _withhold(labels: list[_Label], limits: Limits) -> None:
    """Mark the questions that become unanswerable when their documents, few and specific, are withheld."""
    uses = Counter(document for label in labels for document in label.documents)
    for label in labels:
        few = len(label.documents) <= limits.withhold_max_documents
        specific = all(uses[document] <= limits.withhold_max_uses for document in label.documents)
        label.record["withhold"] = few and specific


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")


def _totals(records: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        split: {
            "questions": len(chosen),
            "withhold": sum(r["withhold"] for r in chosen),
            "pairs": sum(len(r["documents"]) for r in chosen),
            "pages": len({r["page"] for r in chosen}),
        }
        for split in ("dev", "test")
        for chosen in ([r for r in records if r["split"] == split],)
    }


def _source_entry(source: LabelSource, origin: dict[str, Any], found: list[_Label], counts: _Counts) -> dict[str, Any]:
    kept = ("name", "version", "archive", "sha256", "license", "license_file")
    return {
        **{key: origin[key] for key in kept},
        "pages": {"dev": source.dev, "test": source.test},
        "read": counts.read,
        "dropped": dict(sorted(counts.dropped.items())),
        "questions": dict(sorted(Counter(label.record["split"] for label in found).items())),
    }


def _rules(recipe: LabelRecipe) -> dict[str, Any]:
    """The rules in words, for whoever reads the labels without the code."""
    return {
        "links": "gold documents are the corpus documents that the answer's links point to; a POD link names a page "
        "(L<perlop> is perl-doc/perlop.1, L<POSIX> is perl-doc/POSIX.3perl), name(section) a manual page, and an HTML "
        "link a file of the same package; links to pages outside the corpus and to the FAQs themselves are dropped",
        "question": "the heading, with the product named where the heading does not name it",
        "sections": "only where the link names a place and the corpus document has a section under that heading",
        "withhold": "ask the question with `exclude` set to its documents: they were its answer",
        "limits": recipe.limits.model_dump(),
        "generic": recipe.generic,
        "not_alone": recipe.not_alone,
    }

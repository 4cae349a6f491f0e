"""Rankings of arms: from the cache, or by asking the services once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capstan.jobs.evaluate.client import Passage
from capstan.jobs.evaluate.questions import Question
from capstan.jobs.evaluate.recipe import Arm, Recipe, Rerank
from capstan.jobs.evaluate.reference_bm25 import ReferenceBm25
from capstan.jobs.evaluate.rows import Rows, key_of
from capstan.jobs.evaluate.services import Services

RANK_K = 60
"""k of the reciprocal ranks that weigh reranker against retriever; the generator's."""
_TEXTS_KEPT = 50


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk in a ranking."""

    chunk: str
    document: str
    score: float


class Rankings:
    """Rankings of any arm for any question. What was asked before, in this run or another, comes from `cache`."""

    def __init__(self, recipe: Recipe, services: Services, cache: Path) -> None:
        self._recipe = recipe
        self._services = services
        self._cache = cache
        self._rows: dict[str, Rows] = {}
        self._fingerprints: dict[str, str] = {}
        self._reference: dict[str, ReferenceBm25] = {}

    def ranking(self, arm: Arm, question: Question) -> list[Hit]:
        """The chunks that an arm finds, best first. Raises `EvaluateError`."""
        query = question.heading if arm.query == "heading" else question.text
        hits = self._search(arm, query)
        return self._reranked(arm, arm.rerank, query, hits) if arm.rerank else hits

    def evidence(self, arm: Arm, hits: Sequence[Hit]) -> list[str]:
        """What the best chunks give a language model: their texts within the budget, widened while it lasts.

        As the generator does, but for its finer points: passages first, then their neighbours, nearest first.
        """
        chosen = [self.passage(arm.index, hit.chunk) for hit in hits[: self._recipe.passages]]
        room = self._recipe.evidence_tokens * 4
        texts: list[str] = []
        for passage in chosen:
            texts.append(passage.text[: max(0, room)])
            room -= len(passage.text)
        taken = {(passage.document, passage.index) for passage in chosen}
        for distance in range(1, arm.neighbours + 1):
            for passage in chosen:
                for place in (passage.index + distance, passage.index - distance):
                    beside = None if (passage.document, place) in taken else self._beside(arm, passage, place)
                    if beside is not None and len(beside.text) <= room:
                        texts.append(beside.text)
                        room -= len(beside.text)
                        taken.add((passage.document, place))
        return texts

    def passage(self, index: str, chunk: str) -> Passage:
        """A chunk that some search has found."""
        row = self._passages(index).get(chunk)
        if row is None:
            raise KeyError(f"chunk {chunk} of index {index} has not been found by any search")
        return _passage(row)

    def _search(self, arm: Arm, query: str) -> list[Hit]:
        spec = _spec(arm, self._recipe)
        rows = self._file("searches", arm.index)
        key = key_of(spec, query)
        row = rows.get(key)
        if row is None or not self._has_texts(arm.index, row):
            found = self._ask(arm, spec, query)
            for passage, _ in found[:_TEXTS_KEPT]:
                self._keep(arm.index, passage)
            row = {"hits": [[passage.id, passage.document, round(score, 6)] for passage, score in found]}
            rows.put(key, row)
        return [Hit(chunk, document, score) for chunk, document, score in row["hits"]]

    def _ask(self, arm: Arm, spec: dict[str, Any], query: str) -> list[tuple[Passage, float]]:
        retriever = self._services.retriever(arm.index)
        if arm.mode != "rank-bm25":
            return retriever.search(query, **spec)
        if arm.index not in self._reference:
            chunks = (chunk for document in retriever.documents() for chunk in retriever.chunks(document))
            self._reference[arm.index] = ReferenceBm25(chunks)
        return self._reference[arm.index].search(query, self._recipe.limit, frozenset(self._recipe.exclude))

    def _reranked(self, arm: Arm, rerank: Rerank, query: str, hits: list[Hit]) -> list[Hit]:
        head, tail = hits[: rerank.depth], hits[rerank.depth :]
        texts = [self._text(arm.index, hit.chunk, placed=rerank.place) for hit in head]
        if rerank.group:
            scores = self._scores_together(rerank.model, query, texts, [hit.document for hit in head])
        else:
            scores = self._scores(rerank.model, query, texts)
        by_score = sorted(range(len(head)), key=lambda place: -scores[place])
        rank = {place: order for order, place in enumerate(by_score, 1)}
        value = {
            place: rerank.weight / (RANK_K + rank[place]) + (1 - rerank.weight) / (RANK_K + 1 + place)
            for place in range(len(head))
        }
        best_first = sorted(range(len(head)), key=lambda place: -value[place])
        return [Hit(head[place].chunk, head[place].document, scores[place]) for place in best_first] + tail

    def _scores(self, reranker: str, query: str, texts: list[str]) -> list[float]:
        """Scores of passages; a passage's score depends on no other, so each is asked for once."""
        rows = self._file("scores", reranker)
        names = list(map(_name, texts))
        known: dict[str, float] = dict((rows.get(key_of(query)) or {"scores": {}})["scores"])
        missing = {name: text for name, text in zip(names, texts, strict=True) if name not in known}
        if missing:
            fresh = self._services.reranker(reranker).scores(query, list(missing.values()))
            known |= dict(zip(missing, fresh, strict=True))
            rows.put(key_of(query), {"scores": known})
        return [known[name] for name in names]

    def _scores_together(self, reranker: str, query: str, texts: list[str], groups: list[str]) -> list[float]:
        """Scores of passages of which those of one document support each other: they depend on the whole list."""
        rows = self._file("scores", reranker)
        key = key_of(query, list(map(_name, texts)), groups)
        row = rows.get(key)
        if row is None:
            row = {"scores": self._services.reranker(reranker).scores(query, texts, groups)}
            rows.put(key, row)
        return [float(score) for score in row["scores"]]

    def _text(self, index: str, chunk: str, *, placed: bool) -> str:
        passage = self.passage(index, chunk)
        return passage.placed if placed else passage.text

    def _beside(self, arm: Arm, passage: Passage, place: int) -> Passage | None:
        if place < 0:
            return None
        rows = self._passages(arm.index)
        key = key_of(passage.document, place)
        row = rows.get(key)
        if row is None:
            chunks = list(self._services.retriever(arm.index).chunks(passage.document, place, 1))
            row = _row(chunks[0]) if chunks else {}
            rows.put(key, row)
        return _passage(row) if row else None

    def _has_texts(self, index: str, row: dict[str, Any]) -> bool:
        """A run that was killed between the two files leaves hits without their texts."""
        return all(self._passages(index).get(chunk) for chunk, *_ in row["hits"][:_TEXTS_KEPT])

    def _keep(self, index: str, passage: Passage) -> None:
        if self._passages(index).get(passage.id) is None:
            self._passages(index).put(passage.id, _row(passage))

    def _passages(self, index: str) -> Rows:
        return self._file("passages", index)

    def _file(self, kind: str, name: str) -> Rows:
        if f"{kind}/{name}" not in self._rows:
            fingerprint = self._fingerprint("reranker" if kind == "scores" else "retriever", name)
            self._rows[f"{kind}/{name}"] = Rows(self._cache / "rows" / f"{kind}-{name}-{fingerprint[:12]}.jsonl")
        return self._rows[f"{kind}/{name}"]

    def _fingerprint(self, service: str, name: str) -> str:
        """Taken once, so that a run's files belong together, whatever changes meanwhile."""
        if f"{service}/{name}" not in self._fingerprints:
            ask = {
                "reranker": self._services.reranker_fingerprint,
                "retriever": self._services.retriever_fingerprint,
            }[service]
            self._fingerprints[f"{service}/{name}"] = ask(name)
        return self._fingerprints[f"{service}/{name}"]


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _spec(arm: Arm, recipe: Recipe) -> dict[str, Any]:
    """The fields of a search that matter for its mode."""
    spec: dict[str, Any] = {"mode": arm.mode, "limit": recipe.limit}
    if recipe.exclude:
        spec["exclude"] = recipe.exclude
    if arm.mode == "hybrid" or arm.per_document:
        spec["fusion"] = arm.fusion.model_dump()
    if arm.per_document:
        spec["per_document"] = arm.per_document
    return spec


def _row(passage: Passage) -> dict[str, Any]:
    return {
        "id": passage.id,
        "document": passage.document,
        "index": passage.index,
        "title": passage.title,
        "heading": list(passage.heading),
        "text": passage.text,
    }


def _passage(row: dict[str, Any]) -> Passage:
    return Passage(row["id"], row["document"], row["index"], row["title"], tuple(row["heading"]), row["text"])

"""From the corpus to items: candidates, quality, sides, decontamination, a choice of them, a manifest and a card.

What is built depends on the corpus, the labels, the plan and this code alone: built again, it is the same bytes.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from capstan.jobs.assistant.checkers import check
from capstan.jobs.assistant.data import aws, git, option, sql
from capstan.jobs.assistant.data.card import data_card
from capstan.jobs.assistant.data.contamination import Labelled, consistent, without
from capstan.jobs.assistant.data.drafts import Document, Draft, Refused, dice
from capstan.jobs.assistant.data.grounded import Asker
from capstan.jobs.assistant.data.passages import Search, passages
from capstan.jobs.assistant.data.plan import DataPlan, Sizes
from capstan.jobs.assistant.data.questions import questions
from capstan.jobs.assistant.data.sides import families_of, is_read, side
from capstan.jobs.assistant.data.tables import tables
from capstan.jobs.assistant.items import KINDS, SPLITS, Item, Kind, write_items
from capstan.jobs.reranker.labels import Labels

MANIFEST = "manifest.json"
CARD = "README.md"
Say = Callable[[str], None]
Count = Callable[[Item], int]
"""Tokens of an item, prompt and answer in the chat template of the base model."""
_SPARE = 2.0
"""Grounded questions that are tried for each one wanted."""
_OF_ONE_SOURCE = {"aws": 2, "option": 12, "git": 20, "sql": 24, "grounded": 2}
"""Most training items of one source: large pages would be most of the data."""
_HELD_OUT_OF_ONE_SOURCE = {"aws": 1, "option": 5, "git": 5, "sql": 6, "grounded": 1}


def code_sha256() -> str:
    """Hash of the code that decides what the items are, and how they are judged."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted((*here.glob("*.py"), *(here.parent / "checkers").glob("*.py"), here.parent / "items.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build(
    documents: Path, labels: Path, out: Path, plan: DataPlan, head: Mapping[str, Any], count: Count, say: Say
) -> dict[str, Any]:
    """Write `out`/{train,validation,test}.jsonl, the card and the manifest; complete or absent. Returns the manifest.

    `head` begins the manifest: where it comes from. Raises `AssistantError` or `JobError` where an input is missing.
    """
    refused = Refused()
    found = [document for document in _read(documents) if is_read(document, plan)]
    asked = _labelled(labels)
    gold = {document for question in asked if question.get("split") == "test" for document in question["documents"]}
    kept = [document for document in found if document["id"] not in gold]
    refused.add("documents", "the answer to a labelled question", len(found) - len(kept))
    families = families_of(kept)
    say(f"data: {len(kept):,} documents, {len(set(families.values())):,} families")
    labelled = Labelled(asked, overlap=plan.overlap_words, near=plan.near_duplicate)
    by_split: dict[str, list[Draft]] = {split: [] for split in SPLITS}
    for draft in _candidates(kept, families, plan, refused, say):
        if labelled.holds(draft):
            refused.add(draft.kind, "shares something with a labelled question")
        else:
            by_split[side(draft.family, plan)].append(draft)
    candidates = {split: Counter(d.kind for d in drafts) for split, drafts in by_split.items()}
    chosen = _choose(by_split, plan, refused, count, say)
    return _write(out, chosen, {**head, "plan": plan.model_dump()}, candidates, refused, count)


def _candidates(
    documents: Sequence[Document], families: Mapping[str, str], plan: DataPlan, refused: Refused, say: Say
) -> Iterator[Draft]:
    """Drafts of all kinds, document by document."""
    for document in documents:
        family = families[document["id"]]
        if document["source"] == "awscli":
            yield from aws.drafts(document, family, plan.seed, refused)
        elif document["source"] == "git-doc":
            yield from git.drafts(document, family, plan.seed, refused)
        else:
            yield from option.drafts(document, family, plan.seed, refused)
    say("data: commands and options")
    known = {(table.name, table.schema): table for document in documents for table in tables(document)}
    for _, table in sorted(known.items()):
        yield from sql.drafts(table, plan.seed, refused)
    say(f"data: {len(known)} tables")
    for split in SPLITS:
        held = [d for d in documents if side(families[d["id"]], plan) == split]
        yield from _grounded(held, families, split, plan, refused)
        say(f"data: questions with passages ({split})")


def _grounded(
    documents: Sequence[Document], families: Mapping[str, str], split: str, plan: DataPlan, refused: Refused
) -> Iterator[Draft]:
    """Drafts of grounded items of one side: questions of its documents, and passages of these alone."""
    asker = Asker(Search(p for d in documents for p in passages(d)), plan.seed, plan.unanswerable, refused)
    by_source: dict[str, list[Any]] = {}
    for document in documents:
        made = list(questions(document, plan.seed))
        dice(plan.seed, document["id"]).shuffle(made)
        by_source.setdefault(document["source"], []).extend(made[: _OF_ONE_SOURCE["grounded"]])
    pools = [dice(plan.seed, name).sample(pool, len(pool)) for name, pool in sorted(by_source.items())]
    wanted = int(getattr(plan, split).grounded * _SPARE)
    for question in _in_turn(pools, wanted):
        yield from asker.drafts(question, families[question.passage.document])


def _in_turn(pools: Sequence[list[Any]], count: int) -> Iterator[Any]:
    """Take from each pool in turn, so that a large source is not most of it."""
    while count > 0 and any(pools):
        for pool in pools:
            if pool and count > 0:
                count -= 1
                yield pool.pop()


def _choose(
    by_split: Mapping[str, Sequence[Draft]], plan: DataPlan, refused: Refused, count: Count, say: Say
) -> dict[str, list[Item]]:
    """The items of each split: training first, then what is held out and shares nothing with it."""
    chosen: dict[str, list[Draft]] = {}
    for split in SPLITS:
        sizes: Sizes = getattr(plan, split)
        pool = consistent(by_split[split], refused)
        if split != "train":
            others = [draft for done in chosen.values() for draft in done]
            pool = without(pool, others, overlap=plan.overlap_words, near=plan.near_duplicate, refused=refused)
        limits = _OF_ONE_SOURCE if split == "train" else _HELD_OUT_OF_ONE_SOURCE
        chosen[split] = []
        for kind in KINDS:
            drafts = [draft for draft in pool if draft.kind == kind]
            dice(plan.seed, split, kind).shuffle(drafts)
            fit = (draft for draft in drafts if _fits(draft, plan, refused, count))
            chosen[split] += _some(fit, sizes.of(kind), limits[kind])
        dice(plan.seed, split).shuffle(chosen[split])
        say(f"data: {split}: {len(chosen[split]):,} of {sizes.total:,} items wanted")
    return {split: [_named(draft) for draft in drafts] for split, drafts in chosen.items()}


def _fits(draft: Draft, plan: DataPlan, refused: Refused, count: Count) -> bool:
    """Whether the reference passes its own checker and the item is short enough to be trained on."""
    item = draft.item("")
    if not (verdict := check(item, draft.reference)).exact:
        refused.add(draft.kind, f"the reference does not pass its own check: {verdict.reason}")
        return False
    if count(item) > plan.max_tokens:
        refused.add(draft.kind, "more tokens than an item may have")
        return False
    return True


def _some(drafts: Iterable[Draft], count: int, of_one_source: int) -> list[Draft]:
    """The first `count`, at most so many of one source."""
    seen: Counter[str] = Counter()
    kept: list[Draft] = []
    for draft in drafts:
        if len(kept) == count:
            break
        if seen[draft.source] < of_one_source:
            seen[draft.source] += 1
            kept.append(draft)
    return kept


def _named(draft: Draft) -> Item:
    """The item under a name that stays the same while the item does."""
    digest = hashlib.sha256(f"{draft.kind}\n{draft.prompt}\n{draft.reference}".encode()).hexdigest()
    return draft.item(f"{draft.kind}-{digest[:12]}")


def _read(path: Path) -> list[Document]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _labelled(directory: Path) -> list[dict[str, Any]]:
    """What the RAG evaluation asks, of either split, and its known items."""
    labels = Labels(directory)
    return [*labels.questions("test"), *labels.questions("dev"), *labels.known_items()]


def _write(
    out: Path,
    chosen: Mapping[str, Sequence[Item]],
    head: Mapping[str, Any],
    candidates: Mapping[str, Mapping[Kind, int]],
    refused: Refused,
    count: Count,
) -> dict[str, Any]:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".data-") as scratch:
        draft = Path(scratch, "data")
        draft.mkdir()
        for split, items in chosen.items():
            write_items(draft / f"{split}.jsonl", items)
        manifest = {
            **head,
            "splits": {split: _about(draft / f"{split}.jsonl", items, count) for split, items in chosen.items()},
            "candidates": {split: dict(sorted(kinds.items())) for split, kinds in candidates.items()},
            "refused": refused.as_dict(),
        }
        (draft / CARD).write_text(data_card(manifest), encoding="utf-8")
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        os.replace(draft, out)
    return manifest


def _about(path: Path, items: Sequence[Item], count: Count) -> dict[str, Any]:
    """A split in figures; tokens are quantiles of prompt and answer together."""
    tokens: dict[Kind, list[int]] = {}
    for item in items:
        tokens.setdefault(item.kind, []).append(count(item))
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "items": len(items),
        "sources": len({item.source for item in items}),
        "tokens": sum(map(sum, tokens.values())),
        "kinds": {
            kind: {
                "items": len(tokens[kind]),
                "sources": len({item.source for item in items if item.kind == kind}),
                "tokens": {f"p{q}": int(np.percentile(tokens[kind], q)) for q in (5, 50, 95, 100)},
            }
            for kind in KINDS
            if kind in tokens
        },
    }

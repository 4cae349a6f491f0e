import json
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan.jobs.evaluate.client import Reranker, Retriever
from capstan.jobs.evaluate.questions import Question
from capstan.jobs.evaluate.recipe import RECIPE, Arm, Rerank, load_recipe
from loadtest.rag_bench import peer_process
from loadtest.rag_bench.__main__ import PASSAGE_TOKENS, with_long_passages
from loadtest.rag_bench.ours import Found, Ours, order
from loadtest.rag_bench.passages import passages
from loadtest.rag_bench.peer_process import Peer, PeerError, build, index_directory
from loadtest.rag_bench.report import cell, compare, table

STUB = """
import json, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked.get("query") == "die":
        sys.exit(1)
    reply = {"ms": 5.0} if "passages" in asked else {
        "documents": ["a", "b", asked["mode"], str(asked["rerank"])], "ms": {"retrieve": 1.0, "rerank": 0.0}}
    print(json.dumps(reply), flush=True)
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A peer that answers without a framework."""
    script = tmp_path / "stub.py"
    script.write_text(STUB)
    monkeypatch.setattr(peer_process, "_SCRIPT", script)
    monkeypatch.setenv(peer_process.PYTHON, sys.executable)
    return tmp_path


def question(id_: str, *gold: str) -> Question:
    return Question(id_, f"{id_}?", f"{id_}?", "Yes.", frozenset(gold), "s", "test", False)


def found(documents: list[str], retrieve: float, rerank: float = 0.0) -> Found:
    return Found(documents, {"retrieve": retrieve, "rerank": rerank})


def test_a_cell_by_hand() -> None:
    """Gold first, and gold second of two: nDCG 1 and 1/log2(3); times are the sum of the stages."""
    one = cell([question("a", "x"), question("b", "x")], [found(["x"], 10, 5), found(["y", "x"], 30, 5)], seed=1)
    assert one["ndcg10"] == round((1 + 0.6309) / 2, 4)
    assert one["ms"]["p50"] == 25
    assert one["stages_ms"]["retrieve"]["p50"] == 20


def test_a_ratio_below_one_means_that_ours_is_faster() -> None:
    questions = [question(str(n), "x") for n in range(4)]
    ours = cell(questions, [found(["x"], 10)] * 4, seed=1)
    peer = cell(questions, [found(["y", "x"], 40)] * 4, seed=1)
    against = compare(ours, peer, seed=1)
    assert against["p50_ratio"] == 0.25
    assert against["ndcg10_difference"] > 0
    lines = list(table({"hybrid": {"capstan": ours, "llamaindex": peer}}))
    assert [line.split()[1] for line in lines[1:]] == ["capstan", "llamaindex"]


@pytest.mark.parametrize(("weight", "expected"), [(1.0, [2, 1, 0]), (0.0, [0, 1, 2])])
def test_the_weight_goes_from_the_retrievers_order_to_the_rerankers(weight: float, expected: list[int]) -> None:
    assert order([0.1, 0.2, 0.3], weight) == expected


def services(bodies: list[dict[str, Any]]) -> tuple[Retriever, Reranker]:
    def answer(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        bodies.append(body)
        if request.url.path == "/v1/search":
            names = [("c1", "d1"), ("c2", "d1"), ("c3", "d2")]
            results = [{"id": c, "document_id": d, "title": "T", "heading": ["H"], "text": c} for c, d in names]
            return httpx2.Response(200, json={"results": results, "took_ms": {"search": 1.5}})
        scores = [{"index": n, "relevance_score": n / 10} for n in range(len(body["documents"]))]
        return httpx2.Response(200, json={"results": scores, "usage": {"total_tokens": 7}})

    made = (Retriever("http://retriever", "s" * 32), Reranker("http://reranker", "s" * 32))
    for service in made:
        service._client = httpx2.Client(base_url=service.url, transport=httpx2.MockTransport(answer))
    return made


def test_our_side_searches_then_reranks_as_the_arm_says() -> None:
    bodies: list[dict[str, Any]] = []
    ours = Ours(*services(bodies), Arm(rerank=Rerank(depth=3)), candidates=50)
    plain = ours.answer("q", "hybrid", rerank=False, exclude=[])
    assert plain.documents == ["d1", "d2"]
    assert plain.ms["engine"] == 1.5
    assert ours.answer("q", "hybrid", rerank=True, exclude=["d9"]).documents == ["d2", "d1"]
    assert bodies[1]["exclude"] == ["d9"]
    assert bodies[1]["limit"] == 50
    assert bodies[2]["documents"][0] == {"text": "T > H\nc1", "group": "d1"}
    assert ours.score("q", ["p"])["tokens"] == 7


def test_the_peer_answers_over_its_pipe(stub: Path) -> None:
    with Peer(stub, stub, stub, candidates=5, depth=5, passage_tokens=64) as peer:
        assert peer.answer("q", "dense", rerank=True, exclude=["b"]).documents == ["a", "dense", "True"]
        assert peer.score("q", ["p"])["ms"] == 5.0
        with pytest.raises(PeerError, match="ended"):
            peer.answer("die", "dense", rerank=False, exclude=[])


def test_without_a_reranker_the_peer_is_not_asked_to_rerank(stub: Path) -> None:
    with Peer(stub, stub, None, candidates=5, depth=5, passage_tokens=64) as peer:
        assert not peer.reranks
        assert peer.answer("q", "hybrid", rerank=True, exclude=[]).documents[-1] == "False"


def test_a_built_index_is_not_built_again(stub: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    index.mkdir()
    (index / "build.json").write_text('{"chunks": 3}')
    assert build(index, tmp_path / "none.jsonl", tmp_path, None) == {"chunks": 3}


def test_without_its_environment_the_peer_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(peer_process.PYTHON, raising=False)
    with pytest.raises(PeerError, match="make bench-rag"):
        build(tmp_path / "index", tmp_path, tmp_path, None)


def test_other_documents_or_chunks_are_another_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_process, "REQUIREMENTS", tmp_path / "requirements.txt")
    (tmp_path / "requirements.txt").write_text("")
    documents = tmp_path / "documents.jsonl"
    documents.write_text("one\n")
    model = tmp_path / "m/p/model"
    first = index_directory(tmp_path, documents, model, None)
    assert first == index_directory(tmp_path, documents, model, None)
    assert first != index_directory(tmp_path, documents, model, 256)
    documents.write_text("two\n")
    assert first != index_directory(tmp_path, documents, model, None)


def test_passages_are_long_enough_to_be_cut(tmp_path: Path) -> None:
    documents = tmp_path / "documents.jsonl"
    texts = ["short", "long " * 100, "longer " * 100]
    rows = [{"sections": [{"text": "no"}, {"text": text}, {"text": text}]} for text in texts]
    documents.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = passages(documents, 2, tokens=20)
    assert [text.split()[0] for text in found] == ["long", "longer"]
    assert {len(text) for text in found} == {160}


def test_the_timed_reranker_reads_all_of_a_passage_and_is_otherwise_the_default() -> None:
    recipe = with_long_passages(load_recipe(RECIPE))
    assert recipe.rerankers["long"].settings["passage_tokens"] == PASSAGE_TOKENS
    assert {**recipe.rerankers["default"].settings, "passage_tokens": PASSAGE_TOKENS} == recipe.rerankers[
        "long"
    ].settings

"""LlamaIndex's hybrid pipeline, as its documentation builds it. Runs in the environment `peers-rag` only.

    python loadtest/rag_bench/peer.py build --documents F --model DIR --out DIR     embeds the corpus, once
    python loadtest/rag_bench/peer.py serve --index DIR --model DIR [--reranker DIR]

`serve` answers one JSON line on standard output for each line on standard input: `{"query", "mode", "rerank"}`
in, `{"documents": [id…], "ms": {"retrieve", "rerank"}}` out; with `"passages": [text…]` it only scores these,
with `"cut": [text…]` it cuts these to a number of tokens.
Times are taken inside this process: neither a pipe nor HTTP is counted against the peer.

What is the framework's own: `SentenceSplitter` with its defaults, `HuggingFaceEmbedding`, `VectorStoreIndex` over
`FaissVectorStore` (its default store compares vectors in a Python loop), `BM25Retriever` (bm25s), and
`QueryFusionRetriever` with `reciprocal_rerank` and one query. Its reranker class runs models of sentence-transformers,
which ours is not: so our int8 graph is plugged in as the custom postprocessor that the documentation describes, and
`SentenceTransformerRerank` is only timed, on the same encoder with a head that was never trained.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import torch
from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.postprocessor import SentenceTransformerRerank
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle, TextNode
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.retrievers.bm25 import BM25Retriever
from llama_index.vector_stores.faiss import FaissVectorStore

BATCH = 64


def embedder(model: Path) -> HuggingFaceEmbedding:
    """The model in bf16, which is the faster of PyTorch's types on a CPU that has it."""
    return HuggingFaceEmbedding(
        model_name=str(model), device="cpu", embed_batch_size=BATCH, model_kwargs={"dtype": torch.bfloat16}
    )


def documents(path: Path, limit: int | None = None) -> Iterator[Document]:
    """Each document as Markdown, its title as metadata, which the framework embeds and indexes with the text."""
    for line in path.read_text().splitlines()[:limit]:
        given = json.loads(line)
        parts = []
        for section in given["sections"]:
            heading = section["heading"]
            parts += [f"{'#' * min(len(heading), 6)} {heading[-1]}"] if heading else []
            parts.append(section["text"])
        yield Document(id_=given["id"], text="\n\n".join(parts), metadata={"title": given["title"]})


def build(arguments: argparse.Namespace) -> None:
    """Chunk, embed, index, persist; prints seconds and sizes as JSON."""
    started = time.perf_counter()
    splitter = SentenceSplitter(**({"chunk_size": arguments.chunk_size} if arguments.chunk_size else {}))
    nodes: list[BaseNode] = splitter.get_nodes_from_documents(list(documents(arguments.documents, arguments.limit)))
    chunked = time.perf_counter()
    _say(f"{len(nodes)} chunks after {chunked - started:.0f} s")
    bm25 = BM25Retriever.from_defaults(nodes=nodes)
    bm25.persist(str(arguments.out / "bm25"))
    lexical = time.perf_counter()
    model = embedder(arguments.model)
    dimensions = len(model.get_text_embedding("dimensions"))
    store = FaissVectorStore(faiss_index=faiss.IndexFlatIP(dimensions))
    index = VectorStoreIndex(
        nodes=[], storage_context=StorageContext.from_defaults(vector_store=store), embed_model=model
    )
    for start in range(0, len(nodes), 16 * BATCH):
        index.insert_nodes(nodes[start : start + 16 * BATCH])
        _say(f"{start + 16 * BATCH} embedded after {time.perf_counter() - lexical:.0f} s")
    index.storage_context.persist(str(arguments.out / "dense"))
    done = time.perf_counter()
    figures = {
        "chunks": len(nodes),
        "chunk_size": splitter.chunk_size,
        "chunk_overlap": splitter.chunk_overlap,
        "chunking_s": round(chunked - started, 1),
        "bm25_s": round(lexical - chunked, 1),
        "dense_s": round(done - lexical, 1),
        "total_s": round(done - started, 1),
        "cpu_s": round(time.process_time(), 1),
    }
    (arguments.out / "build.json").write_text(json.dumps(figures) + "\n")
    _write(json.dumps(figures))


class OurReranker(BaseNodePostprocessor):  # type: ignore[misc]
    """Our int8 cross-encoder, as the reranker service runs it."""

    _model: Any = PrivateAttr()
    _threads: ThreadPoolExecutor = PrivateAttr()

    def __init__(self, artifact: Path, passage_tokens: int) -> None:
        super().__init__()
        from capstan.common.cross_encoder import CrossEncoder

        self._model = CrossEncoder(artifact, passage_tokens=passage_tokens)
        self._threads = ThreadPoolExecutor(torch.get_num_threads())

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        assert query_bundle is not None
        texts = [f"{node.node.metadata['title']}\n{node.node.get_content()}" for node in nodes]
        scores, _ = self._model.logits(query_bundle.query_str, texts, self._threads)
        for node, score in zip(nodes, scores, strict=True):
            node.score = score
        return sorted(nodes, key=lambda node: -node.score)


class Pipeline:
    """The retrievers over a persisted index."""

    def __init__(
        self, index: Path, model: Path, reranker: Path | None, *, candidates: int, depth: int, passage_tokens: int
    ) -> None:
        store = FaissVectorStore.from_persist_dir(str(index / "dense"))
        context = StorageContext.from_defaults(vector_store=store, persist_dir=str(index / "dense"))
        dense = load_index_from_storage(context, embed_model=embedder(model)).as_retriever(similarity_top_k=candidates)
        bm25 = BM25Retriever.from_persist_dir(str(index / "bm25"))
        bm25.similarity_top_k = candidates
        hybrid = QueryFusionRetriever(
            [dense, bm25],
            llm=MockLLM(),
            similarity_top_k=candidates,
            num_queries=1,
            mode="reciprocal_rerank",
            use_async=False,  # its threads only add time where both searches compute
        )
        self.retrievers: dict[str, BaseRetriever] = {"bm25": bm25, "dense": dense, "hybrid": hybrid}
        self._depth = depth
        self._rerank = OurReranker(reranker, passage_tokens) if reranker else None
        self._timed = SentenceTransformerRerank(model=str(model), top_n=candidates, device="cpu")
        self._timed._model.model.to(torch.bfloat16)

    def answer(self, query: str, mode: str, *, rerank: bool) -> dict[str, Any]:
        """Documents in order, the best chunk of each deciding, and the times in milliseconds."""
        started = time.perf_counter()
        nodes = self.retrievers[mode].retrieve(query)
        retrieved = time.perf_counter()
        if rerank:
            assert self._rerank is not None, "serve was started without --reranker"
            best = self._rerank.postprocess_nodes(nodes[: self._depth], query_str=query)
            nodes = [*best, *nodes[self._depth :]]
        done = time.perf_counter()
        found = dict.fromkeys(node.node.ref_doc_id for node in nodes)
        return {"documents": list(found), "ms": {"retrieve": _ms(started, retrieved), "rerank": _ms(retrieved, done)}}

    def cut(self, texts: list[str], tokens: int) -> list[str]:
        """Beginnings of exactly `tokens` tokens."""
        encoded = self._timed._model.tokenizer(
            texts, add_special_tokens=False, return_offsets_mapping=True, truncation=True, max_length=tokens
        )
        return [text[: places[-1][1]] for text, places in zip(texts, encoded["offset_mapping"], strict=True)]

    def score(self, query: str, passages: list[str]) -> dict[str, Any]:
        """The time that the framework's own reranker takes for passages, in milliseconds."""
        nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in passages]
        started = time.perf_counter()
        self._timed.postprocess_nodes(nodes, query_str=query)
        return {"ms": _ms(started, time.perf_counter())}


def serve(arguments: argparse.Namespace) -> None:
    """Answer lines until standard input ends."""
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    lengths = {name: getattr(arguments, name) for name in ("candidates", "depth", "passage_tokens")}
    pipeline = Pipeline(arguments.index, arguments.model, arguments.reranker, **lengths)
    _write(json.dumps({"ready": True}))
    for line in sys.stdin:
        asked = json.loads(line)
        found: Any
        if "cut" in asked:
            found = pipeline.cut(asked["cut"], asked["tokens"])
        elif "passages" in asked:
            found = pipeline.score(asked["query"], asked["passages"])
        else:
            found = pipeline.answer(asked["query"], asked["mode"], rerank=asked["rerank"])
        _write(json.dumps(found))


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1e3, 3)


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("build")
    make.add_argument("--documents", type=Path, required=True)
    make.add_argument("--out", type=Path, required=True)
    make.add_argument("--chunk-size", type=int, help="default: the framework's")
    make.add_argument("--limit", type=int, help="only the first documents")
    make.set_defaults(run=build)
    answer = commands.add_parser("serve")
    answer.add_argument("--index", type=Path, required=True)
    answer.add_argument("--reranker", type=Path)
    answer.add_argument("--candidates", type=int, default=50)
    answer.add_argument("--depth", type=int, default=50, help="passages that are reranked")
    answer.add_argument("--passage-tokens", type=int, default=192, help="tokens of a passage that our reranker reads")
    answer.add_argument("--threads", type=int, default=2)
    answer.set_defaults(run=serve)
    for command in (make, answer):
        command.add_argument("--model", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()

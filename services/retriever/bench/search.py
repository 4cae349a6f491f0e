"""Latency of the three search modes against a running retriever, one request at a time; prints JSON.

The queries are titles and headings of documents (`--documents`), in a fixed random order.
"""

import argparse
import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

import httpx2

from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.common.provenance import provenance


def queries(path: Path, count: int) -> list[str]:
    """Headings of at least three words, each once."""
    found: set[str] = set()
    for line in path.read_text().splitlines():
        for section in json.loads(line)["sections"]:
            heading = " ".join(section["heading"][-1:])
            if len(heading.split()) >= 3:
                found.add(heading)
    return random.Random(0).sample(sorted(found), count)


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {name: round(cuts[n - 1], 2) for name, n in (("p50", 50), ("p95", 95), ("p99", 99))}


def measure(client: httpx2.Client, mode: str, asked: list[str]) -> dict[str, Any]:
    """Time each query over HTTP, and take the service's own split of the time."""
    wall, embed, search = [], [], []
    for query in asked:
        started = time.perf_counter()
        response = client.post("/v1/search", json={"query": query, "mode": mode, "limit": 10})
        wall.append((time.perf_counter() - started) * 1000)
        response.raise_for_status()
        took = response.json()["took_ms"]
        embed.append(took["embed"])
        search.append(took["search"])
    return {"http_ms": percentiles(wall), "embed_ms": percentiles(embed), "search_ms": percentiles(search)}


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8001")
    parser.add_argument("--documents", type=Path, required=True, help="documents.jsonl that queries are taken from")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--tenant", default="bench", help="reads its own and the shared documents")
    arguments = parser.parse_args()
    token = Signer(os.environ["CAPSTAN_IDENTITY_SECRET"], ttl_s=3600).sign(Identity(arguments.tenant, "bench"))
    asked = queries(arguments.documents, arguments.queries)
    with httpx2.Client(base_url=arguments.url, headers={IDENTITY_HEADER: token}, timeout=60) as client:
        for query in asked[:20]:
            client.post("/v1/search", json={"query": query}).raise_for_status()
        modes = {mode: measure(client, mode, asked) for mode in ("bm25", "dense", "hybrid")}
        index = client.get("/v1/index").json()
    result = {
        **provenance(),
        "queries": len(asked),
        "index": index,
        "modes": modes,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

"""The result file: each comparison under its name with its own provenance, written as it finishes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULT = Path("loadtest/results/llm.json")
SOAK = Path("loadtest/results/soak.json")
_SCRATCH = Path(".capstan")


class Results:
    """Comparisons of this run and of the one that it goes on with.

    A full run collects in `.capstan` and becomes the committed file once every comparison is there, so that a run
    that is interrupted goes on where it was. `anew`: comparisons to replace in the committed file. A quick run's
    figures stay in `.capstan`.
    """

    def __init__(self, *, quick: bool, anew: Sequence[str] = (), fresh: bool = False, root: Path = Path()) -> None:
        self._published = root / RESULT
        self._under_way = root / _SCRATCH / f"bench-llm{'-quick' if quick else ''}.json"
        self._quick = quick
        source = self._published if anew and not quick and not self._under_way.exists() else self._under_way
        kept = {} if fresh or (quick and not anew) else _read(source)
        self.comparisons: dict[str, Any] = {name: found for name, found in kept.items() if name not in anew}

    def add(self, name: str, found: Mapping[str, Any]) -> None:
        """Keep a comparison that is finished."""
        self.comparisons[name] = dict(found)
        _write(self._under_way, self.comparisons)

    def publish(self, names: Sequence[str]) -> Path:
        """Make the file that is committed, if all of `names` are there and ran. Returns where the figures are."""
        complete = all("did_not_run" not in self.comparisons.get(name, {"did_not_run": ""}) for name in names)
        if self._quick or not complete:
            return self._under_way
        _write(self._published, {name: self.comparisons[name] for name in names})
        self._under_way.unlink(missing_ok=True)
        return self._published


def summary(comparisons: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that are compared over time, None where a comparison did not run."""
    serving = comparisons.get("serving", {})
    arms = serving.get("arms", {})
    sustained = comparisons.get("sustained", {}).get("sustained") or {}

    def p99(arm: str) -> float | None:
        value: float | None = arms.get(arm, {}).get("ttft_ms", {}).get("p99")
        return value

    found = {
        "cost_reduction_vs_naive": serving.get("cost_reduction_vs_naive"),
        "cost_reduction_vs_static_batch": serving.get("cost_reduction_vs_naive-batch"),
        "throughput_vs_direct": serving.get("gateway_vs_vllm"),
        "ttft_p99_ms": p99("gateway"),
        "naive_ttft_p99_ms": p99("naive"),
        "static_batch_ttft_p99_ms": p99("naive-batch"),
        "tok_s": arms.get("gateway", {}).get("tok_s"),
        "usd_per_mtok": arms.get("gateway", {}).get("usd_per_mtok"),
        "sustained_requests_s": sustained.get("rate"),
        "sustained_tok_s": sustained.get("tok_s"),
        "failed": sum(_failed(found) for found in comparisons.values()),
    }
    for name, key in (("no-batching", "batching"), ("no_prefix_cache", "prefix-caching"), ("awq", "awq")):
        found[f"{name.replace('-', '_')}_vs_base"] = comparisons.get(key, {}).get("vs_base")
    return {**found, "two_workers_vs_one": comparisons.get("workers", {}).get("two_vs_one")}


def _failed(comparison: Mapping[str, Any]) -> int:
    return sum(sum(arm["failures"].values()) for arm in comparison.get("arms", {}).values())


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {name: one for name, one in found.items() if "did_not_run" not in one}


def _write(path: Path, comparisons: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(comparisons, indent=1, ensure_ascii=False) + "\n")
    scratch.rename(path)

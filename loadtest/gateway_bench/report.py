"""Medians, the table that people read, and the summary that machines read."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loadtest.gateway_bench.rounds import Cell

PEERS = ("vllm-router", "sglang-router", "litellm", "portkey")
_MAIN = {"connections": 32, "streams": 800}
"""The loads that the summary speaks of."""
_QUIET = 0.05
"""Part of the gateway's core that others may use."""
_NOT_MEASURED = ("arm", "round", "connections", "streams", "failures")


def medians(cells: Iterable[Cell]) -> list[Cell]:
    """One cell for each arm and load: medians over the rounds, failures summed."""
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in cells:
        for load in ("connections", "streams"):
            if load in cell:
                groups.setdefault((load, cell["arm"], cell[load]), []).append(cell)
    found = [_median(load, arm, size, group) for (load, arm, size), group in groups.items()]
    _add_added_delay(found, groups)
    return found


def _median(load: str, arm: str, size: int, group: Sequence[Cell]) -> Cell:
    names = [name for name in group[0] if name not in _NOT_MEASURED]
    values = {name: [cell[name] for cell in group if cell.get(name) is not None] for name in names}
    middle = {name: round(statistics.median(v), 3) if v else None for name, v in values.items()}
    failures = sum((Counter(cell["failures"]) for cell in group), Counter[str]())
    return {"arm": arm, load: size, **middle, "failed": sum(values["failed"]), "failures": dict(failures)}


def _add_added_delay(found: list[Cell], groups: Mapping[tuple[str, str, int], list[Cell]]) -> None:
    """What the arm adds to a chunk's way: its delay minus the direct arm's of the same round."""
    for cell in found:
        size = cell.get("streams")
        direct = {c["round"]: c for c in groups.get(("streams", "direct", size or 0), [])}
        if not direct or cell["arm"] == "direct":
            continue
        for quantile in ("p50", "p99"):
            name = f"delay_{quantile}_ms"
            added = [
                own[name] - direct[own["round"]][name]
                for own in groups["streams", cell["arm"], size or 0]
                if own["round"] in direct and own[name] is not None
            ]
            cell[f"added_{quantile}_ms"] = round(statistics.median(added), 3) if added else None


def summary(found: Sequence[Cell], rss_mb: Mapping[str, Mapping[str, float]], soak: Cell) -> dict[str, Any]:
    """The figures that are compared over time; None where an arm did not run."""
    rps = {c["arm"]: c["rps"] for c in found if c.get("connections") == _MAIN["connections"]}
    p50 = {c["arm"]: c["p50_ms"] for c in found if c.get("connections") == 1}
    chunks = {c["arm"]: c["chunks_s"] for c in found if c.get("streams") == _MAIN["streams"]}
    own = {load: c for c in found for load in _MAIN if c["arm"] == "capstan" and _MAIN[load] == c.get(load)}
    result = {
        "rps": rps.get("capstan"),
        "rps_redis": rps.get("capstan-redis"),
        "p50_ms": p50.get("capstan"),
        "stream_chunks_s": chunks.get("capstan"),
        "stream_added_p50_ms": own.get("streams", {}).get("added_p50_ms"),
        "stream_added_p99_ms": own.get("streams", {}).get("added_p99_ms"),
        "cpu_us_per_request": own.get("connections", {}).get("gateway_cpu_us"),
        "cpu_us_per_chunk": own.get("streams", {}).get("gateway_cpu_us"),
        "rss_mb": max(rss_mb.get("capstan", {}).values(), default=None),
        "rss_growth_mb": soak.get("rss_growth_mb"),
    }
    for peer in PEERS:
        if any(cell["arm"] == peer for cell in found):
            name = peer.replace("-", "_")
            result[f"rps_vs_{name}"] = _ratio(rps, "capstan", peer)
            result[f"rps_redis_vs_{name}"] = _ratio(rps, "capstan-redis", peer)
            result[f"p50_vs_{name}"] = _ratio(p50, "capstan", peer)
            result[f"stream_vs_{name}"] = _ratio(chunks, "capstan", peer)
    return {**result, "failed": sum(cell["failed"] for cell in found) + soak.get("failed", 0)}


def _ratio(values: Mapping[str, float], own: str, other: str) -> float | None:
    return round(values[own] / values[other], 3) if values.get(own) and values.get(other) else None


_REQUESTS = (
    ("requests/s", 12, "rps", ",.0f"),
    ("p50 ms", 9, "p50_ms", ".3f"),
    ("p99 ms", 9, "p99_ms", ".3f"),
    ("CPU µs/req", 11, "gateway_cpu_us", ".1f"),
    ("failed", 7, "failed", ",.0f"),
)
_CHUNKS = (
    ("chunks/s", 10, "chunks_s", ",.0f"),
    ("stream p99 ms", 14, "stream_p99_ms", ",.0f"),
    ("TTFT p99 ms", 12, "ttft_p99_ms", ",.1f"),
    ("added p50 ms", 13, "added_p50_ms", ".2f"),
    ("added p99 ms", 13, "added_p99_ms", ".2f"),
    ("CPU µs/chunk", 13, "gateway_cpu_us", ".1f"),
    ("failed", 7, "failed", ",.0f"),
)


def table(
    found: Sequence[Cell], rss_mb: Mapping[str, Mapping[str, float]], soak: Cell, problems: Mapping[str, str]
) -> Iterable[str]:
    """The lines of the table."""
    for load, title, columns in (("connections", "concurrency", _REQUESTS), ("streams", "streams", _CHUNKS)):
        rows = sorted((c for c in found if load in c), key=lambda c: c[load])
        if rows:
            yield ""
            yield f"{'arm':<14}{title:>12}" + "".join(f"{name:>{width}}" for name, width, *_ in columns)
        for cell in rows:
            yield f"{cell['arm']:<14}{cell[load]:>12}" + "".join(_value(cell.get(k), w, f) for _, w, k, f in columns)
    yield ""
    for arm, sizes in rss_mb.items():
        if sizes:
            yield f"{arm:<14} memory, MB: " + ", ".join(f"{when.replace('_', ' ')} {mb}" for when, mb in sizes.items())
    if soak:
        grown = f"memory grew by {soak['rss_growth_mb']} MB"
        yield f"{soak['arm']:<14} soak of {soak['requests']:,} requests: {grown}, {soak['failed']:,} failed"
    for arm, problem in problems.items():
        yield f"{arm:<14} DID NOT RUN: {problem}"
    for cell in [*found, soak]:
        if cell.get("failed"):
            load = next((f"{cell[load]} {load}" for load in _MAIN if load in cell), "the soak")
            kinds = ", ".join(f"{count:,} × {kind}" for kind, count in cell["failures"].items())
            yield f"{cell['arm']:<14} FAILURES in {load}: {kinds}"


def disturbance(found: Iterable[Cell]) -> Iterable[str]:
    """A line of warning if others worked on the gateway's core, which should have been the gateway's alone."""
    worst = max((cell["others_on_gateway_core"] for cell in found if cell["arm"] != "direct"), default=0.0)
    if worst > _QUIET:
        yield f"WARNING: this machine was not quiet: others used up to {worst:.0%} of the gateway's core in the median"


def _value(value: float | None, width: int, spec: str) -> str:
    return f"{'' if value is None else format(value, spec):>{width}}"

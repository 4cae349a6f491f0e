"""`make bench-llm-report`: docs/benchmarks.md's tables and plots, from the committed results alone."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from capstan.jobs.evaluate.results import markdown_table, write_table
from loadtest.llm_bench.results import RESULT, SOAK

DOCUMENT = Path("docs/benchmarks.md")
IMAGES = Path("docs/images")
NOT_YET = "*Not measured yet.*"
Comparisons = Mapping[str, Any]

_ARMS = {
    "naive": "Hugging Face `generate` behind FastAPI, one at a time",
    "naive-batch": "Hugging Face `generate`, static batches of 32",
    "vllm": "vLLM, direct",
    "gateway": "vLLM behind Capstan's gateway",
    "litellm": "vLLM behind LiteLLM",
}
_FEATURES = (
    ("batching", "no-batching", "no continuous batching (`--max-num-seqs 1`)"),
    ("prefix-caching", "no-prefix-cache", "no prefix caching, shared prefixes"),
    ("awq", "awq", "AWQ INT4 weights"),
    ("awq", "awq-1", "AWQ INT4 weights, one request at a time"),
    ("workers", "two-workers", "two workers with half of the cores each"),
)
_BASES = {"awq-1": "vllm-1", "two-workers": "one-worker"}
_GPUS = ("L4 24 GB", "A10G 24 GB", "L40S 48 GB", "A100 80 GB", "H100 80 GB")


def main() -> None:
    """Write every table, and the plots of what there is."""
    found = read(RESULT)
    soak = read(SOAK)
    plots: list[str] = []
    if found or soak:
        from loadtest.llm_bench.plots import draw

        plots = [path.name for path in draw(found, soak, IMAGES)]
    for name, table in tables(found, soak).items():
        write_table(DOCUMENT, name, table)
    print(
        f"{DOCUMENT}: {len(tables(found, soak))} tables, plots: {', '.join(plots) or 'none, nothing is measured yet'}"
    )


def read(path: Path) -> dict[str, Any]:
    """A result file; empty where nothing was measured."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def tables(found: Comparisons, soak: Mapping[str, Any]) -> dict[str, str]:
    """Every generated part of the document, by its name."""
    parts: dict[str, tuple[Callable[[Any], str], Any]] = {
        "serving": (serving, found.get("serving")),
        "lengths": (lengths, found.get("lengths")),
        "features": (features, found if "batching" in found else None),
        "sustained": (sustained, found.get("sustained")),
        "capacity": (capacity, found.get("capacity")),
        "crosscheck": (crosscheck, found.get("crosscheck")),
        "gpus": (gpus, True),
        "soak": (soak_table, soak or None),
    }
    return {name: make(given) if given else NOT_YET for name, (make, given) in parts.items()}


def source(found: Mapping[str, Any], path: Path) -> str:
    """Where a table's figures come from."""
    machine = found["machine"]
    where = f"{machine['cpus']} cores of {machine['cpu']}, {machine['memory_gib']:.0f} GiB"
    return f"`{found['command']}` at {found['commit']} on {found['date']}, {where} ([result](../{path}))."


def serving(found: Mapping[str, Any]) -> str:
    """The arms beside each other."""
    arms = found["arms"]
    first = next(iter(arms.values()))
    rows = [
        [_ARMS[name], *_cells(arm), _usd(arm["usd_per_mtok"]), f"{arm['memory_mb']:,.0f}"] for name, arm in arms.items()
    ]
    head = ("", "tok/s", "TTFT p50 ms", "p99", "TPOT p50 ms", "p99", "failed", "$/M tokens", "memory, MB")
    lines = [
        f"Closed loop of {first['concurrency']}, medians of {_rounds(found)} rounds in turn; "
        f"${found['settings']['usd_per_hour']} an hour. {source(found, RESULT)}",
        "",
        markdown_table(head, rows),
        "",
        "Cost of a million tokens through the gateway: "
        f"{_percent(found['cost_reduction_vs_naive'])} below one at a time, "
        f"{_percent(found['cost_reduction_vs_naive-batch'])} below static batches. Throughput to vLLM direct, in the "
        f"same round: gateway {found['gateway_vs_vllm']:.3f}, LiteLLM {found['litellm_vs_vllm']:.3f}.",
        *_image("bench-serving.svg", "Tokens a second and time to the first token of each arm"),
    ]
    return "\n".join(lines)


def lengths(found: Mapping[str, Any]) -> str:
    """Uneven answers."""
    rows = [[_ARMS[name], *_cells(arm), _usd(arm["usd_per_mtok"])] for name, arm in found["arms"].items()]
    head = ("ShareGPT's lengths", "tok/s", "TTFT p50 ms", "p99", "TPOT p50 ms", "p99", "failed", "$/M tokens")
    reduction = f"The gateway's tokens cost {_percent(found['cost_reduction'])} less."
    return "\n".join([markdown_table(head, rows), "", f"{reduction} {source(found, RESULT)}"])


def features(found: Comparisons) -> str:
    """What each feature does, each against the base in the same rounds."""
    rows = []
    for comparison, arm, label in _FEATURES:
        if comparison not in found:
            continue
        one, base = found[comparison]["arms"][arm], found[comparison]["arms"][_BASES.get(arm, "vllm")]
        ratio = found[comparison][{"awq-1": "vs_base_1", "two-workers": "two_vs_one"}.get(arm, "vs_base")]
        times = [f"{base['ttft_ms']['p50']:,.0f} → {one['ttft_ms']['p50']:,.0f}"]
        times += [f"{base['tpot_ms']['p50']:,.1f} → {one['tpot_ms']['p50']:,.1f}"]
        memory = f"{base['memory_mb']:,.0f} → {one['memory_mb']:,.0f}"
        rows.append([label, f"{base['tok_s']:,.0f} → {one['tok_s']:,.0f}", f"{ratio:.2f}", *times, memory])
    head = ("change", "tok/s", "ratio", "TTFT p50 ms", "TPOT p50 ms", "memory, MB")
    lines = [markdown_table(head, rows), "", source(found["batching"], RESULT)]
    if "awq" in found:
        size = found["awq"]["checkpoint"]["bytes"]
        lines.append(f"The checkpoint is {size['to'] / 1e6:.0f} MB instead of {size['from'] / 1e6:.0f}.")
    return "\n".join(lines)


def sustained(found: Mapping[str, Any]) -> str:
    """The sweep."""
    rows = [
        [f"{point['rate']:.2f}", *_cells(point), f"{point['goodput_s']:.2f}", "yes" if point["held"] else "no"]
        for point in found["points"]
    ]
    head = ("requests/s", "tok/s", "TTFT p50 ms", "p99", "TPOT p50 ms", "p99", "failed", "good requests/s", "held")
    best, slo = found["sustained"], found["settings"]["slo"]
    limits = f"TTFT {slo['ttft_ms']:.0f} ms and TPOT {slo['tpot_ms']:.0f} ms at the p99, nothing failed"
    most = f"{best['rate']:.2f} requests/s, {best['tok_s']:,.0f} tok/s" if best else "none of these rates"
    lines = [
        f"Sustained through the gateway: **{most}** ({limits}). {source(found, RESULT)}",
        "",
        markdown_table(head, rows),
        *_image("bench-sustained.svg", "Time to the first token by rate, measured and predicted"),
    ]
    return "\n".join(lines)


def capacity(found: Mapping[str, Any]) -> str:
    """The model beside the measured sweep, and what it says of larger loads."""
    names = ("ttft_p50", "ttft_p99", "tpot_p50")
    rows = [
        [f"{row['rate']:.2f}", *(f"{row[f'{n}_measured']:,.0f} / {row[f'{n}_predicted']:,.0f}" for n in names)]
        for row in found["points"]
    ]
    head = ("requests/s", "TTFT p50 ms, measured / predicted", "TTFT p99 ms", "TPOT p50 ms")
    measured = "none" if found["sustained_measured"] is None else f"{found['sustained_measured']:.2f}"
    off = "" if found["error"] is None else f" ({found['error']:+.1%})"
    needs = ", ".join(f"{rate} a second: {number}" for rate, number in found["replicas"].items()) or "none is enough"
    lines = [
        markdown_table(head, rows),
        "",
        f"Sustained rate: {measured} measured, {found['sustained_predicted']:.2f} predicted{off}. "
        f"Replicas of this server that the model gives for a number of requests: {needs}. {source(found, RESULT)}",
    ]
    return "\n".join(lines)


def crosscheck(found: Mapping[str, Any]) -> str:
    """Ours beside vLLM's own."""
    rows = []
    for load, figures in found["difference"].items():
        for name, one in figures.items():
            off = "" if one["difference"] is None else f"{one['difference']:+.1%}"
            rows.append(
                [f"{load} loop, `{name}`", f"{one['ours']:,.1f}", f"{one['theirs']:,.1f}", off, f"{one['noise']:.1%}"]
            )
    head = ("figure", "ours", "`vllm bench serve`", "difference", "our rounds' own spread")
    return "\n".join([markdown_table(head, rows), "", source(found, RESULT)])


def gpus(_: Any) -> str:
    """Empty cells: no figure is invented."""
    head = ("GPU", "model", "tok/s", "TTFT p99 ms", "TPOT p99 ms", "$/M tokens", "result")
    return markdown_table(head, [[gpu, *[""] * (len(head) - 1)] for gpu in _GPUS])


def soak_table(found: Mapping[str, Any]) -> str:
    """What became of the requests, and memory."""
    rows = [
        [
            fault["name"],
            f"{fault['began_s']:.0f} to {fault['ended_s']:.0f}",
            ", ".join(f"{n} × {outcome}" for outcome, n in found["explained"][fault["name"]].items()) or "none",
        ]
        for fault in found["faults"]
    ]
    memory = [
        [
            f"{row['process']}{' (again)' * (row['incarnation'] > 1)}",
            f"{row['first_mb']:,.0f}",
            f"{row['last_mb']:,.0f}",
            "" if row["growth_mb"] is None else f"{row['growth_mb']:+.1f}",
        ]
        for row in found["memory"]
    ]
    kind = "vLLM" if found["workers"] == "vLLM" else "simulated"
    counts = f"{found['requests']:,} requests, {found['completed']:,} completed, {found['left']:,} clients left"
    lines = [
        f"{found['seconds'] / 60:.0f} minutes at {found['rate']:.2f} requests/s, workers {kind}: {counts}, "
        f"{found['failed']:,} failed, **{found['unexplained']:,} unexplained**. {source(found, SOAK)}",
        "",
        markdown_table(("fault", "seconds", "failures that it explains"), rows),
        "",
        markdown_table(("process", "first MB", "last MB", "growth after the warm-up, MB"), memory),
        *_image("bench-soak.svg", "Memory of each process over the soak"),
    ]
    return "\n".join(lines)


def _cells(one: Mapping[str, Any]) -> list[str]:
    times = [one["ttft_ms"]["p50"], one["ttft_ms"]["p99"], one["tpot_ms"]["p50"], one["tpot_ms"]["p99"]]
    shown = ["" if time is None else f"{time:,.0f}" for time in times]
    return [f"{one['tok_s']:,.1f}", *shown, f"{sum(one['failures'].values()):,}"]


def _rounds(found: Mapping[str, Any]) -> int:
    return max(int(cell["round"]) for cell in found["cells"])


def _percent(part: float | None) -> str:
    return "" if part is None else f"{part:.1%}"


def _usd(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _image(name: str, text: str) -> Iterable[str]:
    return ("", f"![{text}](images/{name})")


if __name__ == "__main__":
    main()

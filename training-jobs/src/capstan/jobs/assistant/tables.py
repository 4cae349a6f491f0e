"""The tables of the report, from the file of results alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from capstan.jobs.assistant.items import KINDS
from capstan.jobs.evaluate import writers
from capstan.jobs.evaluate.results import markdown_table

Results = Mapping[str, Any]
NOT_YET = "Not run yet."
_TITLES = {"base": "base model", "sft": "SFT", "dpo": "SFT + DPO"}


def tables(results: Results) -> dict[str, str]:
    """Markdown by the name of the table's place; what was not measured is said not to be."""
    makers = {
        "assistant-scorecard": ("models", _scorecard),
        "assistant-kinds": ("models", _kinds),
        "assistant-steps": ("steps", _steps),
        "assistant-wins": ("win_rates", _wins),
        "assistant-variants": ("variants", _variants),
        "assistant-judge": ("judge", _judge),
        "assistant-forgetting": ("forgetting", _forgetting),
        "assistant-formats": ("formats", _formats),
        "assistant-rag": ("rag", _rag),
        "assistant-training": ("training", _training),
        "assistant-data": ("data", _data),
    }
    return {name: make(results) if results.get(needed) else NOT_YET for name, (needed, make) in makers.items()}


def _scorecard(results: Results) -> str:
    rows = []
    for name, model in results["models"].items():
        wins = [_share(model, "win_rate_vs_base", "win_ci"), _share(model, "lc_win_rate_vs_base", "lc_win_ci")]
        rates = [_share(model, "pass_rate", "pass_ci"), _share(model, "exact_rate", "exact_ci")]
        rows.append([_TITLES[name], *rates, *wins, f"{model['mean_characters']:.0f}"])
    head = [f"{results['prompts']:,} held-out prompts", "passes the checkers", "exact match", "wins over base"]
    return markdown_table([*head, "the same at equal length", "characters"], rows)


def _kinds(results: Results) -> str:
    models = results["models"]
    kinds = models["base"]["by_kind"]
    rows = [
        [kind, str(card["n"]), *(_share(model["by_kind"][kind], "pass_rate", "pass_ci") for model in models.values())]
        for kind, card in kinds.items()
    ]
    return markdown_table(["kind", "prompts", *(_TITLES[name] for name in models)], rows)


def _steps(results: Results) -> str:
    rows = []
    for name, step in results["steps"].items():
        found = "–" if step["detectable"] is None else f"{step['detectable']:.3f}"
        each = f"{step['only_first']} / {step['only_second']}"
        rows.append([name, f"{step['difference']:+.3f}", _interval(step["difference_ci"]), each, _p(step["p"]), found])
    head = ["step", "difference of pass rates", "95% CI", "passes only first / second", "p (McNemar, exact)"]
    return markdown_table([*head, "found with 80% power from"], rows)


def _wins(results: Results) -> str:
    rows = []
    for name, played in results["win_rates"].items():
        counts = f"{played['wins']} / {played['ties']} / {played['losses']}"
        by = ", ".join(f"{key} {count}" for key, count in sorted(played["decided_by"].items()))
        rates = [_share(played, "win_rate", "win_ci"), _share(played, "lc_win_rate", "lc_win_ci")]
        rows.append([name, counts, *rates, _p(played["p"]), by])
    head = ["pair", "wins / ties / losses", "win rate", "at equal length", "p (sign test)", "decided by"]
    table = markdown_table(head, rows)
    if not (step := results.get("win_rate_step")):
        return table
    return f"{table}\n\nWin rate over the base model, DPO's less SFT's: {step['difference']:+.3f}, p {_p(step['p'])}."


def _variants(results: Results) -> str:
    rows = []
    for name, variant in results["variants"].items():
        on_validation = f"{results['validation_pass_rate'][name]:.3f}"
        test = [f"{variant['difference']:+.3f}", _interval(variant["difference_ci"]), _p(variant["p_holm"])]
        rows.append([name + (" (chosen)" if name == results["best_dpo"] else ""), on_validation, *test])
    head = ["variant", f"pass rate, {results['validation_prompts']} validation prompts", "test: over SFT", "95% CI"]
    said = f"SFT itself on validation: {results['validation_pass_rate']['sft']:.3f}. Shipped: {results['chosen']}."
    return f"{markdown_table([*head, 'p (McNemar, Holm)'], rows)}\n\n{said}"


def _judge(results: Results) -> str:
    judge = results["judge"]
    rows = [
        [name, str(m["pairs"]), str(m["failed"]), _share(m, "win_rate", "win_ci"), _number(m["consistent"])]
        for name, m in judge["matches"].items()
    ]
    sanity = judge["sanity"]
    trust = "can be trusted" if sanity["trusted"] else "is too weak, and its figures are no headline"
    right = f"{sanity['right']} of {sanity['n']} known pairs rightly ({sanity['bar']})"
    said = f"{judge['model']} decided {right}: it {trust}."
    return f"{markdown_table(['pair', 'n', 'no verdict', 'win rate', 'consistent'], rows)}\n\n{said}"


def _forgetting(results: Results) -> str:
    found = results["forgetting"]
    rows = []
    for name, scores in found["scores"].items():
        tasks = [f"{scores[t]['accuracy']:.3f} ± {scores[t]['standard_error']:.3f}" for t in ("cloze", "section")]
        rows.append([name, f"{scores['bits_per_byte']:.4f}", *tasks])
    head = ["weights", f"bits per byte, {found['documents']} documents"]
    return markdown_table([*head, f"cloze, {found['cloze']}", f"section, {found['section']}"], rows)


def _formats(results: Results) -> str:
    rows = []
    for name, one in results["formats"]["formats"].items():
        sizes = [_number(one["weights_mb"], 0), _number(one["memory_mb"], 0)]
        times = [_number(one["ttft_p50_ms"], 0), _number(one["tpot_p50_ms"], 1), _number(one["answers_s"], 2)]
        rows.append([name, one["computed_in"] or "–", _share(one, "pass_rate", "pass_ci"), *sizes, *times])
    head = ["format", "computed in", "passes the checkers", "weights, MB", "memory, MB", "TTFT p50, ms", "TPOT p50, ms"]
    steps = [
        [name, f"{step['difference']:+.3f}", _interval(step["difference_ci"]), _p(step["p"])]
        for name, step in results["formats"]["steps"].items()
    ]
    tested = markdown_table(["pair", "difference of pass rates", "95% CI", "p (McNemar, exact)"], steps)
    return f"{markdown_table([*head, 'answers/s'], rows)}\n\n{tested}"


def _rag(results: Results) -> str:
    found = results["rag"]
    return writers.tables(found, (found["a"], found["b"]))


def _data(results: Results) -> str:
    splits = results["data"]["splits"]
    kinds = {kind for split in splits.values() for kind in split["kinds"]}
    empty = {"items": 0, "sources": 0}

    def cell(split: str, kind: str) -> str:
        found = splits[split]["kinds"].get(kind, empty)
        return f"{found['items']:,} of {found['sources']:,}"

    rows = [[kind, *(cell(split, kind) for split in splits)] for kind in KINDS if kind in kinds]
    rows.append(["all", *(f"{split['items']:,} of {split['sources']:,}" for split in splits.values())])
    return markdown_table(["items of sources", *splits], rows)


def _training(results: Results) -> str:
    training = results["training"]
    runs = {**({"sft": training["sft"]} if "sft" in training else {}), **training.get("dpo", {})}
    shown = ["beta", "loss_type", "rate", "steps", "tokens", "seconds", "loss", "reward_accuracy", "margin"]
    used = [key for key in shown if any(key in run for run in runs.values())]
    rows = [[name, *(_plain(run.get(key)) for key in used)] for name, run in runs.items()]
    return markdown_table(["run", *(key.replace("_", " ") for key in used)], rows)


def _share(found: Results, value: str, interval: str) -> str:
    return f"{found[value]:.3f} ({_interval(found[interval])})" if value in found else ""


def _interval(bounds: Sequence[float]) -> str:
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _number(value: float | None, decimals: int = 3) -> str:
    return "–" if value is None else f"{value:,.{decimals}f}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)

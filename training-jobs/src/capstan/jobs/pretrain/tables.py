"""The tables of the report, from the file of results alone."""

from collections.abc import Mapping
from typing import Any

from capstan.jobs.evaluate.results import markdown_table

Results = Mapping[str, Any]
NOT_YET = "Not measured yet."


def tables(results: Results) -> dict[str, str]:
    """Markdown by the name of the table's place; what is not measured yet is said to be so."""
    makers = {
        "headline": ("val_bpb", _headline),
        "run": ("params", _run),
        "evaluation": ("evaluation", _evaluation),
        "comparison": ("comparison", _comparison),
        "ladder": ("ladder", _ladder),
        "data": ("data", _data),
    }
    return {name: make(results) if needed in results else NOT_YET for name, (needed, make) in makers.items()}


def _headline(results: Results) -> str:
    ours, trigram = results["val_bpb"], results["trigram_bpb"]
    rows = [
        ["held-out bits per byte, to a trigram model", f"{trigram:.3f}", f"**{ours:.3f}**", _change(ours, trigram)],
        ["held-out perplexity", "brief: 6.4", _perplexity(results), "another tokenizer, other text"],
    ]
    if "predicted_bpb" in results:
        predicted = results["predicted_bpb"]["bits_per_byte"]
        rows.append(
            ["bits per byte, to what the ladder predicted", f"{predicted:.3f}", f"{ours:.3f}", _change(ours, predicted)]
        )
    if "comparison" in results:
        at, theirs = results["our_bpb_at_ladder_size"], results["nanogpt_recipe_bpb_at_ladder_size"]
        speed, slower = results["tokens_s_at_ladder_size"], results["nanogpt_tokens_s"]
        name = "the same at the ladder's size, to nanoGPT's recipe"
        rows.append([name, f"{theirs:.3f}", f"**{at:.3f}**", _change(at, theirs)])
        rows.append(["tokens/s there, to nanoGPT's", f"{slower:,}", f"**{speed:,}**", f"{speed / slower:.2f} times"])
    return markdown_table(["", "baseline", "this", ""], rows)


def _change(ours: float, theirs: float) -> str:
    return f"{ours / theirs - 1:+.1%}"


def _run(results: Results) -> str:
    rows = [["parameters", f"{results['params']:,}"]]
    if "curve" in results:
        rows += [
            ["tokens", f"{results['tokens']:,}" + ("" if results["finished"] else " (the run has not ended)")],
            ["tokens a second, median", f"{results['tokens_s']:,.0f}"],
            ["core-hours, other load included", f"{results['core_hours']:,.1f}"],
            ["loss of the last step, nats a token", f"{results['curve'][-1]['loss']:.3f}"],
        ]
    if "val_bpb" in results:
        rows += [["held-out bits per byte", f"{results['val_bpb']:.3f}"], ["held-out perplexity", _perplexity(results)]]
    if "predicted_bpb" in results:
        predicted = results["predicted_bpb"]
        text = f"{predicted['bits_per_byte']:.3f} ({predicted['low']:.3f} to {predicted['high']:.3f})"
        rows.append(["bits per byte that the ladder predicts for its end", text])
        best = "multiplying parameters, of those on the ladder, that suit its work best"
        rows.append([best, f"{results['best_parameters']:,}"])
    return markdown_table(["", results["recipe"]], rows)


def _perplexity(results: Results) -> str:
    return f"{results['val_ppl']:.2f} at {results['bytes_per_token']:.2f} bytes a token"


def _evaluation(results: Results) -> str:
    rows = []
    for name, scores in results["evaluation"]["scores"].items():
        cells = [f"{scores[t]['accuracy']:.3f} ± {scores[t]['standard_error']:.3f}" for t in ("cloze", "section")]
        perplexity = f"{scores['perplexity']:.2f}" if "perplexity" in scores else ""
        rows.append([name, f"{scores['bits_per_byte']:.3f}", perplexity, *cells])
    rows.append(["chance", "", "", "0.250", "0.250"])
    return markdown_table(["model", "bits per byte", "perplexity", "cloze", "section"], rows)


def _comparison(results: Results) -> str:
    found = results["comparison"]
    rows = [
        [name, f"{run['total_parameters']:,}", f"{run['tokens']:,}", f"{run['bits_per_byte']:.3f}"]
        for name, run in found["runs"].items()
    ]
    speeds = [[name, f"{wall:,}", f"{found['tokens_core_s'][name]:,}"] for name, wall in found["tokens_s"].items()]
    both = (["recipe", "parameters", "tokens", "bits per byte"], rows), (["", "tokens/s", "tokens/core-second"], speeds)
    return "\n\n".join(markdown_table(*each) for each in both)


def _ladder(results: Results) -> str:
    rows = [
        [str(run["depth"]), f"{run['total_parameters']:,}", f"{run['tokens']:,}", f"{run['bits_per_byte']:.3f}"]
        for run in results["ladder"]["runs"]
    ]
    law, compute = results["ladder"]["law"], results["ladder"]["compute_law"]
    sizes = f"{law['floor']:.3f} + {law['a']:.3g} / N^{law['alpha']:.3f} + {law['b']:.3g} / D^{law['beta']:.3f}"
    work = f"{compute['k']:.3g} C^-{compute['g']:.4f} through the {compute['runs']} runs that no cheaper one beats"
    fits = f"L(N, D) = {sizes}; L(C) = {work}."
    return markdown_table(["depth", "parameters", "tokens", "bits per byte"], rows) + "\n\n" + fits


def _data(results: Results) -> str:
    rows = []
    for stage in results["data"]["stages"]:
        why = {key.removeprefix("dropped_"): count for key, count in stage.items() if key.startswith("dropped_")}
        often = sorted(why.items(), key=lambda item: -item[1])
        told = ", ".join(f"{key.replace('_', ' ')} {count:,}" for key, count in often)
        total = f"{stage['total']:,}" if "total" in stage else ""
        rows.append([stage["stage"], total, f"{stage.get('dropped', 0):,}", told])
    return markdown_table(["stage", "documents", "dropped", "why"], rows)

"""The figures of answers as tables for docs/rag.md and as keys of docs/results/rag.json."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]

_OF_ANSWERS = ("model", "split", "questions", "withheld", "citations", "abstention", "context")
_RAGAS = ("faithfulness", "answer_relevancy", "context_precision", "context_recall")


def keys(figures: Figures, by_hand: Figures) -> dict[str, Any]:
    """What rag.json says of answers."""
    cited, abstained = figures["citations"], figures["abstention"]
    return {
        "citation_precision": cited["precision"]["value"],
        "citation_recall": cited["recall"]["value"],
        "abstention_precision": abstained["precision"]["value"],
        "abstention_recall": abstained["recall"]["value"],
        "context_precision": figures["context"]["context_precision"]["value"],
        "citation_hand_check": dict(by_hand) or None,
        "answers": {name: figures[name] for name in _OF_ANSWERS},
    }


def ragas_keys(ragas: Figures) -> dict[str, Any]:
    """What rag.json says under `ragas`. A judge that is not trusted gives no headline."""
    judge = ragas.get("judge")
    trusted = bool(judge and judge["sanity"]["trusted"])
    return {
        "version": ragas["ragas"],
        "headline": _headline(judge) if judge and trusted else None,
        "judge_trusted": trusted if judge else None,
        "without_judge": ragas["without_judge"],
        "judge": judge,
    }


def markdown(figures: Figures, ragas: Figures, by_hand: Figures) -> dict[str, str]:
    """The tables by name."""
    tables = {"citations": _citations(figures["citations"], by_hand), "abstention": _abstention(figures["abstention"])}
    tables["context"] = _context(figures["context"])
    if ragas:
        tables["ragas"] = _ragas(ragas)
    return tables


def _headline(judge: Figures) -> dict[str, float | None]:
    return {name: judge["metrics"][name]["value"] for name in _RAGAS if name in judge["metrics"]}


def _citations(cited: Figures, by_hand: Figures) -> str:
    rows = [("all answers", cited["n_scored"], cited)]
    rows += [(mode, part["n"], part) for mode, part in cited["by_mode"].items()]
    table = _table(
        ("answers", "n", "citation precision", "of citations", "citation recall", "of sentences"),
        [
            (
                name,
                n,
                _share(part["precision"]),
                part["precision"]["n"],
                _share(part["recall"]),
                part["recall"]["n"],
            )
            for name, n, part in rows
        ],
    )
    counts = (
        f"n {cited['n']}, scored {cited['n_scored']}, failed {cited['n_failed']}, abstained {cited['n_abstained']}."
    )
    if not by_hand.get("n"):
        return f"{table}\n\n{counts} No person has judged the sample yet."
    hand = (
        f"By hand, on {by_hand['n']} citations: precision {_number(by_hand['precision_by_hand'])} "
        f"{_interval(by_hand['precision_by_hand_ci95'])}; the verifier agrees on {by_hand['agreement']:.0%} "
        f"(Cohen's κ {_number(by_hand['kappa'])}), accepted {by_hand['accepted_wrong']} wrongly and refused "
        f"{by_hand['refused_right']} wrongly."
    )
    return f"{table}\n\n{counts} {hand}"


def _abstention(abstained: Figures) -> str:
    rows = [
        ("all: withheld or not", abstained),
        ("those asked both ways", abstained["pairs"]),
        ("all: no gold passage in the evidence, or one", abstained["by_evidence"]),
    ]
    table = _table(
        ("questions", "precision", "recall", "answerable, yet abstained"),
        [(name, *(_share(part[key]) for key in ("precision", "recall", "false_abstention"))) for name, part in rows],
    )
    return f"{table}\n\nn {abstained['n']}, scored {abstained['n_scored']}, failed {abstained['n_failed']}."


def _context(found: Figures) -> str:
    names = {
        "context_precision": "context precision, rank-aware, on gold ids (RAGAS's definition)",
        "context_precision_by_reference": "the same, a passage that holds a sentence of the reference counting too",
        "id_context_precision": "context precision on ids",
        "id_context_recall": "context recall on ids",
        "reference_word_recall": "words of the reference answer that the passages hold",
    }
    counts = ("n", "n_scored", "n_failed", "n_abstained")
    rows = [(text, _share(found[name]), *(found[name][c] for c in counts)) for name, text in names.items()]
    table = _table(("metric", "value", *counts), rows)
    explained = found["explained"]
    where = explained["context_precision_where_one_was_found"]
    return (
        f"{table}\n\nBeside the brief's {explained['brief']}: {explained['without_any_gold_passage']} of "
        f"{found['context_precision']['n_scored']} questions have no gold passage in their evidence and count 0; "
        f"over the others it is {_share(where)}."
    )


def _ragas(ragas: Figures) -> str:
    counts = ("n", "n_scored", "n_failed", "n_abstained", "n_not_applicable")
    header = ("metric", "judge", "value", *counts)

    def rows(metrics: Figures, judge: str) -> list[tuple[Any, ...]]:
        return [(name, judge, _share(m), *(m[c] for c in counts)) for name, m in metrics.items()]

    table = _table(header, rows(ragas["without_judge"], "none"))
    judge = ragas.get("judge")
    lines = [f"ragas {ragas['ragas']}", "", table]
    if judge:
        sanity = judge["sanity"]
        lines += [
            "",
            f"Judge: {judge['model']}, on {judge['questions']} of {judge['of']} answers. On {sanity['n']} pairs whose "
            f"verdict is known it has an accuracy of {_number(sanity['accuracy'])} and an AUROC of "
            f"{_number(sanity['auroc'])}, and failed on {sanity['n_failed']} (bar: {sanity['bar']}): it "
            f"**{'can be trusted' if sanity['trusted'] else 'is too weak to be trusted'}**"
            f"{'' if sanity['trusted'] else ', and these figures say more about it than about the answers'}.",
            "",
            _table(header, rows(judge["metrics"], judge["model"])),
        ]
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _share(found: Figures) -> str:
    if found["value"] is None:
        return "–"
    return f"{_number(found['value'])} {_interval(found['ci95'])}".strip()


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"

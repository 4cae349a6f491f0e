"""Plots of the committed results: small SVG files whose colours are legible on a light and on a dark page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

_GREY = "#7d8590"
_COLOURS = ["#3b82f6", "#e07a1f", "#2f9e6e", "#c05bb0", "#8f7a2b", "#d0454c"]
_STYLE = {
    "svg.hashsalt": "capstan",  # the same figures give the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _GREY,
    "axes.labelcolor": _GREY,
    "axes.edgecolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=_COLOURS),
    "legend.frameon": False,
}


def draw(found: Mapping[str, Any], soak: Mapping[str, Any], directory: Path) -> list[Path]:
    """Write the plots for which there are results."""
    directory.mkdir(parents=True, exist_ok=True)
    plots = []
    with mpl.rc_context(_STYLE):
        if "serving" in found:
            plots.append(_save(_serving(found["serving"]), directory / "bench-serving.svg"))
        if "sustained" in found:
            plots.append(_save(_sustained(found), directory / "bench-sustained.svg"))
        if soak:
            plots.append(_save(_memory(soak), directory / "bench-soak.svg"))
    return plots


def _serving(found: Mapping[str, Any]) -> Any:
    arms = list(found["arms"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.4), sharey=True)
    for axes, values, label in (
        (left, [found["arms"][arm]["tok_s"] for arm in arms], "tok/s"),
        (right, [(found["arms"][arm]["ttft_ms"]["p99"] or 0) / 1e3 for arm in arms], "TTFT p99, s"),
    ):
        bars = axes.barh(arms, values, color=_COLOURS[0])
        axes.bar_label(bars, fmt="%.3g", padding=3, color=_GREY)
        axes.set_xlabel(label)
        axes.margins(x=0.2)
    left.invert_yaxis()
    return figure


def _sustained(found: Mapping[str, Any]) -> Any:
    points, slo = found["sustained"]["points"], found["sustained"]["settings"]["slo"]
    figure, axes = plt.subplots(figsize=(5.4, 2.8))
    rates = [point["rate"] for point in points]
    for metric, marker in (("p50", "o"), ("p99", "s")):
        axes.plot(rates, [p["ttft_ms"][metric] for p in points], marker=marker, label=f"measured, {metric}")
    if "capacity" in found:
        predicted = [row["ttft_p99_predicted"] for row in found["capacity"]["points"]]
        axes.plot(rates, predicted, ls="--", label="predicted, p99")
    axes.axhline(slo["ttft_ms"], color=_GREY, lw=0.8, ls=":", label="SLO")
    axes.set(xlabel="requests/s", ylabel="TTFT, ms", yscale="log")
    axes.legend()
    return figure


def _memory(soak: Mapping[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(5.4, 2.8))
    names = list(dict.fromkeys(row["process"] for row in soak["memory"]))
    for row in soak["memory"]:
        curve = row["curve_mb"]
        step = (row["to_s"] - row["from_s"]) / max(1, len(curve) - 1) / 60
        minutes = [row["from_s"] / 60 + step * n for n in range(len(curve))]
        label = row["process"] if row["incarnation"] == 1 else None
        axes.plot(minutes, curve, color=_COLOURS[names.index(row["process"])], label=label)
    for fault in soak["faults"]:
        axes.axvline(fault["began_s"] / 60, color=_GREY, lw=0.8, ls=":")
    axes.set(xlabel="minutes (dotted: faults)", ylabel="memory, MB", ylim=(0, None))
    axes.legend()
    return figure


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = path.read_text()
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")
    return path

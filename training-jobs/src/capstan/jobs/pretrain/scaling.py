"""The scaling law of a ladder of small runs: L(N, D) = E + A/N^a + B/D^b (Hoffmann et al. 2022, equation 2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from capstan.jobs.pretrain.errors import PretrainError

Point = dict[str, Any]
"""A run: `parameters` that multiply, `bytes` of text read, `flops`, and `bits_per_byte` on held-out text."""


@dataclass(frozen=True, slots=True)
class Law:
    """Bits per byte of a model of N parameters after D bytes."""

    floor: float
    a: float
    alpha: float
    b: float
    beta: float

    def loss(self, parameters: float, size: float) -> float:
        """Bits per byte."""
        return float(self.floor + self.a * parameters**-self.alpha + self.b * size**-self.beta)

    def best_parameters(self, flops: float, bytes_per_token: float, low: float, high: float) -> float:
        """The parameters from `low` to `high` that make the most of that many FLOP (6 for each parameter and token)."""
        sizes = np.geomspace(low, high, 200)
        return float(min(sizes, key=lambda n: self.loss(n, flops / (6 * n) * bytes_per_token)))


def fit(points: Sequence[Point]) -> Law:
    """Least squares on the logarithm, Huber-damped, the best of several starts. Raises `PretrainError` if too few."""
    if len(points) < 6:
        raise PretrainError(f"{len(points)} runs are too few for five constants; the ladder needs at least 6")
    n, d, loss = (np.array([p[key] for p in points], float) for key in ("parameters", "bytes", "bits_per_byte"))

    def residuals(x: Any) -> Any:
        floor, a, alpha, b, beta = x
        return np.log(np.exp(floor) + np.exp(a - alpha * np.log(n)) + np.exp(b - beta * np.log(d))) - np.log(loss)

    starts = [(-1.0, *size, *text) for size, text in product(((2.0, 0.3), (5.0, 0.5)), ((4.0, 0.3), (8.0, 0.5)))]
    low, high = (-4.0, -5.0, 0.02, -5.0, 0.02), (1.5, 25.0, 2.0, 30.0, 2.0)
    fits = [least_squares(residuals, start, loss="huber", f_scale=1e-2, bounds=(low, high)) for start in starts]
    floor, a, alpha, b, beta = min(fits, key=lambda f: f.cost).x
    return Law(math.exp(floor), math.exp(a), alpha, math.exp(b), beta)


def predict(points: Sequence[Point], parameters: float, size: float) -> dict[str, float]:
    """What the law says of another run, and the range when any one point is left out."""
    without = [fit([*points[:n], *points[n + 1 :]]).loss(parameters, size) for n in range(len(points))]
    value = fit(points).loss(parameters, size)
    return {"bits_per_byte": round(value, 4), "low": round(min(without), 4), "high": round(max(without), 4)}


def compute_law(points: Sequence[Point]) -> dict[str, float]:
    """L(C) = k C^-g through the runs that no cheaper run beats (Kaplan et al. 2020)."""
    frontier: list[Point] = []
    for point in sorted(points, key=lambda p: p["flops"]):
        if not frontier or point["bits_per_byte"] < frontier[-1]["bits_per_byte"]:
            frontier.append(point)
    work, loss = (np.log([point[key] for point in frontier]) for key in ("flops", "bits_per_byte"))
    slope, level = np.polyfit(work, loss, 1)
    return {"k": float(np.exp(level)), "g": float(-slope), "runs": len(frontier)}

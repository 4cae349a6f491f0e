"""The scaling law: it finds the constants that made the points, and predicts beyond them."""

from itertools import product
from typing import Any

import pytest

pytest.importorskip("scipy", reason="requirements/pretrain.txt is not installed")

from capstan.jobs.pretrain.errors import PretrainError
from capstan.jobs.pretrain.scaling import Law, compute_law, fit, predict

TRUE = Law(floor=0.8, a=60.0, alpha=0.35, b=900.0, beta=0.45)


def points(noise: float = 0.0) -> list[dict[str, Any]]:
    found = []
    for number, (n, d) in enumerate(product((6e5, 2e6, 4e6, 9e6), (2e6, 4e6, 8e6))):
        loss = TRUE.loss(n, d) * (1 + noise * (-1) ** number)
        found.append({"parameters": n, "bytes": d, "flops": 6 * n * d / 3.4, "bits_per_byte": loss})
    return found


def test_the_law_that_made_the_points_is_found() -> None:
    assert fit(points()).loss(5e7, 3e7) == pytest.approx(TRUE.loss(5e7, 3e7), rel=0.02)


def test_a_prediction_has_a_range_that_noise_widens() -> None:
    clean, noisy = predict(points(), 5e7, 3e7), predict(points(0.01), 5e7, 3e7)
    assert clean["low"] <= clean["bits_per_byte"] <= clean["high"]
    assert noisy["high"] - noisy["low"] > clean["high"] - clean["low"]


def test_more_work_wants_a_larger_model() -> None:
    assert TRUE.best_parameters(1e17, 3.4, 1e5, 1e9) > 2 * TRUE.best_parameters(1e15, 3.4, 1e5, 1e9)
    assert TRUE.best_parameters(1e17, 3.4, 1e5, 1e6) == pytest.approx(1e6)


def test_loss_falls_with_work_along_the_frontier() -> None:
    law = compute_law(points())
    assert 0.01 < law["g"] < 1
    assert law["runs"] >= 4


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(PretrainError, match="at least 6"):
        fit(points()[:5])

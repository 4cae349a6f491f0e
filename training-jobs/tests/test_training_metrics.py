"""What a scrape of a training run shows, on a clock that the test moves."""

import re
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from capstan.common.settings import load
from capstan.jobs.metrics import TrainingMetrics, TrainingSettings


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def value(metrics: TrainingMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"capstan_train_{name}", {"job": "pretrain", "run": "d4", **labels})


def a_run(clock: Clock, steps: int = 100, **more: float) -> TrainingMetrics:
    return TrainingMetrics("pretrain", "d4", steps=steps, now=clock, wall=lambda: 1.7e9, **more)  # type: ignore[arg-type]


def step(metrics: TrainingMetrics, done: int, tokens: int = 512, **more: float) -> None:
    metrics.step(done, loss=4.0 - done / 100, tokens=tokens, learning_rate=1e-3, **more)


def test_speed_utilization_and_remaining_time_follow_the_clock() -> None:
    clock = Clock()
    metrics = a_run(clock, flops_per_token=6e6, peak_flops=1.2e10)
    for done in (1, 2, 3, 4):
        clock.time += 0.5
        step(metrics, done)
    assert value(metrics, "tokens_per_second") == pytest.approx(1024)
    assert value(metrics, "mfu_ratio") == pytest.approx(1024 * 6e6 / 1.2e10)
    assert value(metrics, "eta_seconds") == pytest.approx(96 * 0.5)
    assert value(metrics, "tokens_total") == 4 * 512
    assert (value(metrics, "step"), value(metrics, "steps_planned")) == (4, 100)
    assert value(metrics, "loss", split="train") == pytest.approx(3.96)


def test_speed_is_the_present_one_and_the_end_is_reached() -> None:
    clock = Clock()
    metrics = a_run(clock, steps=60)
    for done in range(1, 61):
        clock.time += 10.0 if done <= 30 else 1.0
        step(metrics, done)
    assert value(metrics, "tokens_per_second") == pytest.approx(512)
    assert value(metrics, "eta_seconds") == 0


def test_a_resumed_run_counts_its_earlier_tokens_but_not_as_speed() -> None:
    clock = Clock()
    metrics = a_run(clock, tokens_before=1_000_000)
    clock.time += 1
    step(metrics, 51)
    assert value(metrics, "tokens_total") == 1_000_512
    assert value(metrics, "tokens_per_second") == pytest.approx(512)
    assert value(metrics, "eta_seconds") == pytest.approx(49)


def test_what_a_run_does_not_have_is_not_shown_as_zero() -> None:
    metrics = a_run(Clock())
    step(metrics, 1)
    for name in ("mfu_ratio", "gradient_norm", "checkpoint_timestamp_seconds"):
        assert value(metrics, name) is None
    assert value(metrics, "loss", split="val") is None
    step(metrics, 2, gradient_norm=0.7)
    metrics.validation(3.5)
    metrics.checkpoint()
    assert value(metrics, "gradient_norm") == 0.7
    assert value(metrics, "loss", split="val") == 3.5
    assert value(metrics, "checkpoint_timestamp_seconds") == 1.7e9


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def test_prometheus_reads_a_running_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSTAN_JOBS_METRICS_PORT", str(free_port()))
    port = load(TrainingSettings).metrics_port
    metrics = a_run(Clock())
    metrics.serve(port)
    step(metrics, 7)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    assert families["capstan_train_step"].samples[0].value == 7
    assert families["capstan_train_step"].samples[0].labels == {"job": "pretrain", "run": "d4"}
    assert "process_resident_memory_bytes" in families


def test_a_taken_port_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        with pytest.raises(SystemExit, match="2"):
            a_run(Clock()).serve(taken.getsockname()[1])
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("wrong", ["70000", "metrics"])
def test_a_port_that_is_none_names_the_setting(
    wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAPSTAN_JOBS_METRICS_PORT", wrong)
    with pytest.raises(SystemExit, match="2"):
        load(TrainingSettings)
    assert "CAPSTAN_JOBS_METRICS_PORT" in capsys.readouterr().err


def test_the_readme_has_every_metric_and_no_other() -> None:
    families = a_run(Clock()).registry.collect()
    names = {f"{m.name}_total" if m.type == "counter" else m.name for m in families if m.name.startswith("capstan_")}
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert set(re.findall(r"`(capstan_train_[a-z_]+)", readme)) == names

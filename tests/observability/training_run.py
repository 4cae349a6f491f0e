"""A training run without training, for its metrics: `python training_run.py PORT`."""

import sys
import time

from capstan.jobs.metrics import TrainingMetrics

STEPS = 1_000_000


def main() -> None:
    """Make a step a fifth of a second until stopped."""
    metrics = TrainingMetrics("pretrain", "d4", steps=STEPS, flops_per_token=1e8, peak_flops=1e12)
    metrics.serve(int(sys.argv[1]))
    for done in range(1, STEPS):
        metrics.step(done, loss=3.0, tokens=512, learning_rate=1e-3, gradient_norm=1.0)
        if done % 10 == 1:
            metrics.validation(3.1)
            metrics.checkpoint()
        time.sleep(0.2)


if __name__ == "__main__":
    main()

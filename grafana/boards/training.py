"""Training runs: do they learn, how fast, until when?"""

from goals import Goals
from panels import Board, Query, graph, stat

_R = '{run=~"$run"}'
_NAME = "{{job}} {{run}}"


def board(_: Goals) -> Board:
    """The dashboard."""
    b = Board("capstan-training", "Capstan / Training", "Training runs while they run.")
    b.variable("run", "Run", "capstan_train_step")
    b.row(
        "",
        stat(
            "Progress",
            "Steps done of those planned. Stands still: see the run's log.",
            f"capstan_train_step{_R} / capstan_train_steps_planned{_R}",
            unit="percentunit",
            decimals=0,
            each=_NAME,
        ),
        stat("Time left", "At the present speed.", f"capstan_train_eta_seconds{_R}", unit="s", decimals=0, each=_NAME),
        stat(
            "Training loss",
            "Of the last step.",
            'capstan_train_loss{run=~"$run",split="train"}',
            decimals=3,
            each=_NAME,
        ),
        stat(
            "Last checkpoint",
            "How much would be lost if the run ended now without a SIGTERM.",
            f"time() - capstan_train_checkpoint_timestamp_seconds{_R}",
            unit="s",
            decimals=0,
            each=_NAME,
        ),
        height=5,
    )
    b.row(
        "Learning",
        graph(
            "Loss",
            "val rising above train: it learns by heart, stop or use more data. A jump: a lower learning rate.",
            Query(f"capstan_train_loss{_R}", f"{_NAME} {{{{split}}}}"),
        ),
        graph(
            "Learning rate",
            "Warm-up, then as the recipe's schedule says.",
            Query(f"capstan_train_learning_rate{_R}", _NAME),
            unit="sci",
        ),
        graph(
            "Gradient norm",
            "Before clipping. Spikes with a loss that jumps: a lower learning rate or a longer warm-up.",
            Query(f"capstan_train_gradient_norm{_R}", _NAME),
        ),
    )
    b.row(
        "Speed",
        graph(
            "Tokens a second",
            "Falls without a change of the recipe: something else uses the machine, or data comes too slowly.",
            Query(f"capstan_train_tokens_per_second{_R}", _NAME),
        ),
        graph(
            "Model FLOPs utilization",
            "Of the machine's peak. Far below what the run's report says: data, or a batch that is too small.",
            Query(f"capstan_train_mfu_ratio{_R}", _NAME),
            unit="percentunit",
        ),
        graph("Steps", "A flat line is a run that hangs.", Query(f"capstan_train_step{_R}", _NAME)),
        graph("Tokens", "Seen since the run began.", Query(f"capstan_train_tokens_total{_R}", _NAME)),
        columns=2,
    )
    return b

import io

from rich.console import Console

from capstan.jobs.corpus.progress import Steps


def test_a_log_gets_a_line_at_the_start_every_five_seconds_and_at_the_end(log: io.StringIO) -> None:
    clock = [0.0]
    steps = Steps(Console(file=log, force_terminal=False), now=lambda: clock[0])
    with steps.step("extract git-doc", 30, "pages") as advance:
        for _ in range(3):
            clock[0] += 3
            advance(10)
    assert log.getvalue().splitlines() == [
        "extract git-doc: 30 pages",
        "extract git-doc: 20 of 30 pages",
        "extract git-doc: done in 9.0 s",
    ]


def test_a_terminal_gets_a_bar(log: io.StringIO) -> None:
    steps = Steps(Console(file=log, force_terminal=True, width=80))
    with steps.step("extract git-doc", 30, "pages") as advance:
        advance(30)
    assert "extract git-doc" in log.getvalue()
    assert "30/30" in log.getvalue()

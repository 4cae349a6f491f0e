"""Progress that reads well on a terminal and in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_LINE_EVERY_S = 5.0


class Steps:
    """One bar for each long step; without a terminal plain lines: at its start, every few seconds, at its end."""

    def __init__(self, console: Console | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._now = now

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, markup=False)

    @contextmanager
    def step(self, name: str, total: int, unit: str = "") -> Iterator[Callable[[int], None]]:
        """A step of `total` units; call what it yields with the number of units just done."""
        if self._console.is_terminal:
            columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            with Progress(*columns, console=self._console) as bar:
                task = bar.add_task(name, total=total)
                yield lambda count: bar.advance(task, count)
            return
        self.say(f"{name}: {total} {unit}".rstrip())
        started = last = self._now()
        done = 0

        def advance(count: int) -> None:
            nonlocal done, last
            done += count
            if self._now() - last >= _LINE_EVERY_S:
                last = self._now()
                self.say(f"{name}: {done} of {total} {unit}".rstrip())

        yield advance
        self.say(f"{name}: done in {self._now() - started:.1f} s")

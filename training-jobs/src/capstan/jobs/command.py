"""The frame of a job's command: what ends it, and what its user then reads."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from capstan.common.models import ModelError
from capstan.common.settings import CommonSettings, settings_config

INTERRUPTED = 130
"""Exit code after SIGINT or SIGTERM: not finished, so that whoever started it starts it again."""


class JobError(Exception):
    """Something the user can put right: the message is one line that names what to change."""


class JobSettings(CommonSettings):
    """Environment that every job reads; one that needs more adds to it."""

    model_config = settings_config("jobs")


def run_job(work: Callable[[], int | None], *, stopped: str, mistakes: tuple[type[Exception], ...] = ()) -> int:
    """Do `work`; its exit code. A user's mistake is one line and 2, never a traceback.

    `stopped` is said after a signal. `mistakes`: what else the user can put right.
    """
    known: tuple[type[Exception], ...] = (JobError, ModelError, *mistakes)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return work() or 0
    except known as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or 'disk'}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return INTERRUPTED
    return 2


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yields whether SIGTERM or SIGINT has come since; meanwhile they do nothing else."""
    caught: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda which, _: caught.append(which)) for number in signals]
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt

"""What a person sees while the stack runs."""

import json
import sys
import time
from contextlib import suppress

_COLOURS = {"gateway": 36, "retriever": 32, "reranker": 33, "generator": 35, "worker": 34}
_SERIOUS = ("warning", "error", "critical")


class Console:
    """Prints progress, and the services' log lines with their names in front."""

    def __init__(self, *, all_logs: bool = False) -> None:
        self._all_logs = all_logs
        self._colour = sys.stdout.isatty()
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """A line of progress with the seconds since the start."""
        self.plain(f"[{time.monotonic() - self._started:5.0f} s] {text}")

    def plain(self, text: str = "", end: str = "\n") -> None:
        """Text as it is."""
        with suppress(OSError):  # the terminal may be gone while the services still stop
            print(text, end=end, flush=True)

    def service_line(self, service: str, line: str) -> None:
        """A log line of a service: all of them where asked for, else warnings and worse."""
        level, text = _read(line)
        if self._all_logs or level in _SERIOUS:
            self.plain(f"{self._name(service)} | {text}")

    def _name(self, service: str) -> str:
        name = f"{service:<9}"
        return f"\x1b[{_COLOURS.get(service, 37)}m{name}\x1b[0m" if self._colour else name


def _read(line: str) -> tuple[str, str]:
    """Level and readable text of a line: our services write JSON, vLLM does not."""
    try:
        entry = json.loads(line)
        level, message = str(entry.pop("level")), entry.pop("msg")
    except (ValueError, KeyError, AttributeError, TypeError):
        level = "error" if line.startswith(("error:", "ERROR ")) else "info"
        return level, line
    hidden = ("ts", "service", "exc_info")
    rest = " ".join(f"{key}={value}" for key, value in entry.items() if key not in hidden)
    trace = f"\n{entry['exc_info']}" if "exc_info" in entry else ""
    return level, f"{level}: {message} {rest}".rstrip() + trace

"""What a shell would start: every command line of a text, its variables filled in, without anything being started.

A real bash runs the text in an empty copy of the repository's directories. Its search path leads nowhere, so that each
program ends in bash's hook for commands that are not found, which writes down how it was called. `make` is run for
real, with the same hook in the shells of its recipes.
"""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from documents import ROOT

_HOOK = """\
record() { printf '%s\\0' "$PWD" "$(compgen -e)" "$#" "$@" >> "$CALLS"; }
command_not_found_handle() { record "$@"; }
"""
_PROGRAM = '#!/bin/bash\nrecord "$0" "$@"\n'
_BASH = {"BASH_ENV", "CALLS", "HOME", "OLDPWD", "PATH", "PWD", "SHLVL", "_"}
"""Variables that every call has."""


class NotShell(Exception):
    """The text is no shell script, or make refuses it; the message is theirs."""


@dataclass(frozen=True)
class Call:
    """A program as it would be started: its words, where (from the root), and the variables it is given."""

    words: tuple[str, ...]
    directory: Path = Path()
    variables: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return " ".join(self.words)


class HollowCheckout:
    """The repository's directories without its files; in place of its programs, ones that write down their calls."""

    def __init__(self, scratch: Path) -> None:
        self._root, self._calls, self._hook = scratch / "root", scratch / "calls", scratch / "hook"
        self._hook.write_text(_HOOK)
        shown = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for line in shown.splitlines():
            mode, path = line[:6], self._root / line.partition("\t")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            if mode == "100755":
                path.write_text(_PROGRAM)
                path.chmod(0o755)

    def shell(self, text: str) -> list[Call]:
        """What a script starts. A variable that nobody sets is a mistake. Raises `NotShell`."""
        return self._recorded(["/bin/bash", "-u", "-c", text])

    def make(self, arguments: Sequence[str]) -> list[Call]:
        """What `make` with these arguments starts. Raises `NotShell`."""
        make = ["/usr/bin/env", "PATH=/usr/bin:/bin", "make", "--silent", f"--file={ROOT / 'Makefile'}"]
        return self._recorded([*make, "SHELL=/bin/bash", "PATH=/nowhere", *arguments])

    def _recorded(self, command: Sequence[str]) -> list[Call]:
        self._calls.write_text("")
        environment = {
            "PATH": "/nowhere",
            "HOME": "/home/reader",
            "BASH_ENV": str(self._hook),
            "CALLS": str(self._calls),
        }
        done = subprocess.run(command, cwd=self._root, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise NotShell(done.stderr.strip())
        return list(self._read(self._calls.read_text().split("\0")[:-1]))

    def _read(self, fields: Sequence[str]) -> Iterator[Call]:
        position = 0
        while position < len(fields):
            directory, exported, count = fields[position : position + 3]
            position += 3 + int(count)
            words = tuple(fields[position - int(count) : position])
            yield Call(words, Path(directory).relative_to(self._root), frozenset(exported.split()) - _BASH)

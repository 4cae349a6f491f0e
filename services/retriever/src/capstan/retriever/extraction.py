"""Reads uploaded files in a process of its own, one at a time: `extractor` is its other end.

The process is started for the first file and kept; after a crash, a time-out or a file that took all its
memory the next file gets a new one. The service outlives all of these.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from capstan.extract.rules import Format
from capstan.retriever.chunking import Section
from capstan.retriever.extractor import TOO_MUCH_MEMORY

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "capstan.retriever.extractor")
_READY_S = 60.0
Code = Literal["unreadable_file", "file_too_large", "file_timed_out", "reader_crashed"]


class Unreadable(Exception):
    """A file that gives no document; the message says why, for the person whose file it is."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code


class ExtractionUnavailable(Exception):
    """The process cannot be started: the operator's concern, the log says why."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """A file's title and sections."""

    title: str
    sections: tuple[Section, ...]


class Extraction:
    """One process, made anew when it is lost."""

    def __init__(
        self, *, seconds: float, memory_bytes: int, max_characters: int, command: Sequence[str] = COMMAND
    ) -> None:
        """`seconds` for each file, `memory_bytes` for the process, `max_characters` of text in one file."""
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._max_characters = max_characters
        self._command = [*command, str(memory_bytes), str(max_characters)]
        self._process: Process | None = None
        self._one_at_a_time = asyncio.Lock()
        self.waiting = 0
        """Files that are being read or wait for it."""

    async def read(self, path: Path, kind: Format, name: str) -> Extracted:
        """Title and sections of a file. Raises `Unreadable`, `ExtractionUnavailable`."""
        self.waiting += 1
        try:
            async with self._one_at_a_time:
                answer = await self._ask({"path": str(path), "kind": kind, "name": name, "seconds": self._seconds})
        finally:
            self.waiting -= 1
        if "error" in answer:
            raise Unreadable("unreadable_file", answer["error"])
        if "too_much_text" in answer:
            found, most = answer["too_much_text"], self._max_characters
            raise Unreadable("file_too_large", f"it holds {found:,} characters of text, more than {most:,}; split it")
        sections = tuple(Section(tuple(heading), text) for heading, text in answer["sections"])
        return Extracted(answer["title"], sections)

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.communicate()  # collects it and closes its pipes

    async def _ask(self, request: dict[str, Any]) -> Any:
        process = await self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            return json.loads(await _frame(process))
        except (asyncio.IncompleteReadError, ConnectionError):
            ended = await process.wait()
            await self.close()
            raise self._lost(ended) from None
        except BaseException:  # cancelled: its answer would be taken for that of the next file
            await self.close()
            raise

    async def _running(self) -> Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self.close()
        no_secrets = {name: value for name, value in os.environ.items() if not name.startswith("CAPSTAN_")}
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE, env=no_secrets)
        try:
            async with asyncio.timeout(_READY_S):
                await _frame(self._process)
        except BaseException as error:
            await self.close()
            if isinstance(error, asyncio.IncompleteReadError | TimeoutError):
                log.exception("the process that reads files does not start; its own words are above")
                raise ExtractionUnavailable from error
            raise
        return self._process

    def _lost(self, ended: int) -> Unreadable:
        log.warning("the process that reads files ended; the next file gets a new one", extra={"status": ended})
        if ended == -signal.SIGALRM:
            return Unreadable("file_timed_out", f"it could not be read within {self._seconds:g} s; split it")
        if ended == TOO_MUCH_MEMORY:
            mib = self._memory_bytes // 2**20
            return Unreadable("file_too_large", f"it takes more than {mib} MiB of memory to read; split it")
        return Unreadable("reader_crashed", "its reader crashed on it; save it anew with another program")


async def _frame(process: Process) -> bytes:
    assert process.stdout is not None
    size = int.from_bytes(await process.stdout.readexactly(8), "big")
    return await process.stdout.readexactly(size)

"""The process that reads uploaded files: `python -m capstan.retriever.extractor`, started by `extraction`.

A request is one line of JSON on standard input, an answer a frame on standard output: 8 bytes of length,
then JSON. The first frame, empty, says that the parsers are loaded. Files of strangers may be made to
take forever, eat all memory or crash a parser, so the process bounds itself: what it may use is set
before the first file, and an alarm that nobody catches ends it when one takes too long, also if the
service is gone by then.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

NICENESS = 10
TOO_MUCH_MEMORY = 3  # exit code: what is left of the process is not to be trusted


def main() -> None:
    """Answer until standard input ends."""
    memory_bytes, max_characters = map(int, sys.argv[1:])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a parser prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which drains first
    os.nice(NICENESS)
    for limit, value in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (value, value))
    from capstan.extract import formats  # noqa: F401 - slow: before the first file and not in its time

    _send(answers, b"")
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        try:
            page = read(Path(request["path"]), request["kind"], request["name"], max_characters)
            answer = json.dumps(page, ensure_ascii=False).encode()
        except MemoryError:
            os._exit(TOO_MUCH_MEMORY)
        _send(answers, answer)
        signal.setitimer(signal.ITIMER_REAL, 0)


def read(path: Path, kind: Any, name: str, max_characters: int) -> dict[str, Any]:
    """`{"title", "sections": [[heading, text]]}`, or `{"error"}` with a reason for the file's owner."""
    from capstan.extract.errors import BrokenDocument
    from capstan.extract.formats import extract
    from capstan.extract.rules import PageRules

    try:
        page = extract(path, kind, PageRules(), name)
    except BrokenDocument as error:
        return {"error": str(error)}
    except MemoryError:
        raise
    except RecursionError:
        return {"error": "its markup is nested too deeply"}
    except Exception as error:  # a parser's own fault
        return {"error": f"not readable as {kind} ({type(error).__name__})"}
    if page.characters > max_characters:
        return {"too_much_text": page.characters}
    return {"title": page.title, "sections": [[section.heading, section.text] for section in page.sections]}


def _send(answers: Any, body: bytes) -> None:
    answers.write(len(body).to_bytes(8, "big") + body)
    answers.flush()


if __name__ == "__main__":
    main()

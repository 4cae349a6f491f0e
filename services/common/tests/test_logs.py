"""What a process writes is JSON, a line each, whoever writes it."""

import json
import os
import subprocess
import sys
from typing import Any

PROGRAM = """
import logging, warnings
from capstan.common.logs import configure_logging
configure_logging("probe")
logging.getLogger("uvicorn.error").info("Started server process")
warnings.warn("old", FutureWarning)
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("anything").exception("caught")
raise RuntimeError("the end")
"""


def written() -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[str]]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()], done


def test_every_line_is_json_and_a_traceback_is_a_field() -> None:
    lines, done = written()
    assert (done.returncode, done.stderr) == (1, "")
    assert [line["level"] for line in lines] == ["info", "warning", "error", "critical"]
    assert {line["service"] for line in lines} == {"probe"}
    assert "FutureWarning: old" in lines[1]["msg"]
    assert lines[2]["exc_info"].endswith("ZeroDivisionError: division by zero")
    assert lines[3]["exc_info"].startswith("Traceback")
    assert lines[3]["exc_info"].endswith("RuntimeError: the end")

"""Non-streaming load: wrk with one thread, on the load's core."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.gateway_bench.payloads import PATH, request_body

_SCRIPT = """\
wrk.method = "POST"
wrk.body = {body}
wrk.headers["Content-Type"] = "application/json"

done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "socket": %d, "status": %d, "timeout": %d}}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write, e.status, e.timeout))
end
"""


@dataclass(frozen=True)
class Wrk:
    """wrk with one request, sent again and again."""

    script: Path
    core: int

    @classmethod
    def prepare(cls, directory: Path, core: int) -> "Wrk":
        """Write wrk's script into `directory`."""
        script = directory / "request.lua"
        script.write_text(_SCRIPT.format(body=json.dumps(request_body(stream=False))))
        return cls(script, core)

    def run(self, url: str, headers: Sequence[str], connections: int, seconds: int) -> dict[str, Any]:
        """Load `url` with closed-loop connections; rate, latencies and failures."""
        command = ["taskset", "-c", str(self.core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
        command += [*(part for header in headers for part in ("-H", header)), "-s", str(self.script), url + PATH]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30)
        seen = json.loads(done.stdout.splitlines()[-1])
        failures = {kind: seen[kind] for kind in ("socket", "status", "timeout") if seen[kind]}
        return {
            "connections": connections,
            "rps": round(seen["requests"] / seen["seconds"], 1),
            "p50_ms": seen["p50_ms"],
            "p99_ms": seen["p99_ms"],
            "requests": seen["requests"],
            "failed": sum(failures.values()),
            "failures": failures,
        }

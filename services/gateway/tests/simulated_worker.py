"""A worker process that speaks vLLM's HTTP API and can be killed."""

import os
import signal
import socket
import subprocess
import sys

SETTINGS = {"CAPSTAN_WORKER_LORA_SLOTS": "2", "CAPSTAN_WORKER_SIM_TTFT_MS": "1", "CAPSTAN_WORKER_SIM_TPOT_MS": "1"}
MODEL = "smollm2-135m"


class Worker:
    """A simulated worker on a port of its own, which it keeps over restarts."""

    def __init__(self, **settings: str) -> None:
        self._settings = {**SETTINGS, **settings}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "capstan.worker", "--simulate"]
        environ = {**os.environ, **self._settings, "CAPSTAN_WORKER_PORT": str(self.port)}
        self._process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

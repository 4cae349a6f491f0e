"""Prometheus, and what the stack alone does not have: a second worker, a gateway on Redis, a training run.

The configuration is the committed one with these changes, and no others:
- targets are this machine's ports in place of names that Compose resolves;
- Prometheus scrapes and evaluates every second instead of every fifteen;
- each alert's `for` is a second: what has to be true stays as it is, only not for so long;
- alerts go to a stand-in for Alertmanager (Debian's own runs only where it is installed as root).
"""

import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx2
import yaml
from observability.boards import ROOT
from observability.tools import Tools
from observability.traffic import Traffic
from otlp_receiver import otlp_receiver
from redis_server import RedisServer
from running_stack import RunningStack

from capstan.native.stack import admin_key, identity_secret
from capstan.native.supervisor import Service

HERE = Path(__file__).resolve().parent
DEADLINE_S = 60.0
Json = dict[str, Any]


class Monitoring:
    """What runs beside the stack. `prometheus` is a client of its API."""

    def __init__(self, stack: RunningStack, tools: Tools, directory: Path) -> None:
        self.stack = stack
        self._tools = tools
        self._directory = directory
        self._ports = free_ports("worker", "gateway", "training", "prometheus")
        self._beside: list[str] = []
        self._exit = ExitStack()
        self.alertmanager = Alertmanager()
        self._exit.callback(self.alertmanager.stop)
        self.prometheus = self._client("prometheus")

    def __enter__(self) -> Self:
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(self._beside):
            self.stack.drain(name)
        self._exit.close()

    def _start_all(self) -> None:
        self.spans = self._exit.enter_context(otlp_receiver())
        redis = RedisServer(self._directory)
        self._exit.callback(redis.kill)
        self.start_worker()
        self._start("training", sys.executable, str(HERE / "training_run.py"), str(self._ports["training"]), ready="/")
        self._start_gateway(redis.url)
        self._start_prometheus()
        self.traffic = Traffic(self.stack, self._client("gateway"), admin_key(self.stack.settings.state))
        self._exit.callback(self.traffic.clean)
        self.traffic.run()
        self.wait(lambda: self.values("sum(capstan_generator_answers_total) > 0"))  # what began is seen to grow
        self.traffic.run()

    def values(self, expr: str) -> list[float]:
        """What a query gives now, without NaN. Raises when Prometheus refuses it."""
        response = self.prometheus.post("/api/v1/query", data={"query": expr})
        assert response.status_code == 200, f"{expr}: {response.text}"
        values = [float(series["value"][1]) for series in response.json()["data"]["result"]]
        return [value for value in values if value == value]

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        alerts = self.prometheus.get("/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    @staticmethod
    def wait(condition: Callable[[], object]) -> None:
        """Ask again until it is so; the deadline ends the test."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, "Prometheus did not show it in time"
            time.sleep(0.5)

    def start_worker(self) -> None:
        """The second worker."""
        port = str(self._ports["worker"])
        command = (sys.executable, "-m", "capstan.worker", "--simulate")
        self._start("worker", *command, ready="/health", CAPSTAN_WORKER_PORT=port)

    def kill_workers(self) -> None:
        """Both of them, without a warning."""
        self.stack.kill("worker")
        self.stack.kill("monitoring-worker")

    def restart_workers(self) -> None:
        """Both, after `kill_workers`."""
        self.stack.restart("worker")
        self.stack.drain("monitoring-worker")
        self.start_worker()

    def _start_gateway(self, redis_url: str) -> None:
        """A second gateway, on Redis, with prices, both workers, and every request traced."""
        models = yaml.safe_load((ROOT / "native/models.yaml").read_text())
        models["pools"]["llm"]["urls"].append(self._url("worker"))
        models["models"]["smollm2-135m"]["price"] = {"input": 1000, "output": 1000}
        path = self._directory / "models.yaml"
        path.write_text(yaml.safe_dump(models))
        state, settings = self.stack.settings.state, self.stack.settings
        self._start(
            "gateway",
            *(sys.executable, "-m", "capstan.gateway"),
            ready="/readyz",
            CAPSTAN_GATEWAY_PORT=str(self._ports["gateway"]),
            CAPSTAN_GATEWAY_MODELS_FILE=str(path),
            CAPSTAN_GATEWAY_KEYS_FILE=str(state / "keys.yaml"),
            CAPSTAN_GATEWAY_REDIS_URL=redis_url,
            CAPSTAN_GATEWAY_ADMIN_KEY=admin_key(state),
            CAPSTAN_IDENTITY_SECRET=identity_secret(state),
            CAPSTAN_WORKER_PORT=str(settings.worker_port),
            CAPSTAN_GENERATOR_PORT=str(settings.generator_port),
            CAPSTAN_RETRIEVER_PORT=str(settings.retriever_port),
            CAPSTAN_RERANKER_PORT=str(settings.reranker_port),
            CAPSTAN_RERANKER_MODEL="reranker",
            OTEL_EXPORTER_OTLP_ENDPOINT=self.spans.url,
            OTEL_TRACES_SAMPLER="always_on",
        )

    def _start_prometheus(self) -> None:
        config = yaml.safe_load((ROOT / "prometheus/prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        stack = self.stack.settings
        targets = {
            "gateway": [stack.gateway_port, self._ports["gateway"]],
            "retriever": [stack.retriever_port],
            "reranker": [stack.reranker_port],
            "generator": [stack.generator_port],
            "vllm-worker": [stack.worker_port, self._ports["worker"]],
            "jobs": [self._ports["training"]],
            "prometheus": [self._ports["prometheus"]],
        }
        for job in config["scrape_configs"]:
            job.pop("dns_sd_configs", None)
            job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in targets.get(job["job_name"], ())]}]
        config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [self.alertmanager.address]}]}]
        rules = self._directory / "rules"
        rules.mkdir()
        for source in (ROOT / "prometheus/rules").glob("*.yaml"):
            (rules / source.name).write_text(yaml.safe_dump(impatient(yaml.safe_load(source.read_text()))))
        path = self._directory / "prometheus.yaml"
        path.write_text(yaml.safe_dump(config))
        self._start(
            "prometheus",
            str(self._tools.prometheus),
            f"--config.file={path}",
            f"--storage.tsdb.path={self._directory / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self._ports['prometheus']}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
            ready="/-/ready",
        )

    def _start(self, name: str, *command: str, ready: str, **environment: str) -> None:
        service = Service(f"monitoring-{name}", command, environment, self._url(name) + ready)
        self.stack.start_beside(service)
        if service.name not in self._beside:
            self._beside.append(service.name)

    def _url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def _client(self, name: str) -> httpx2.Client:
        client = httpx2.Client(base_url=self._url(name), timeout=60, trust_env=False)
        return self._exit.enter_context(client)


def free_ports(*names: str) -> dict[str, int]:
    """A port for each name, free now."""
    with ExitStack() as held:
        probes = {name: held.enter_context(socket.socket()) for name in names}
        for probe in probes.values():
            probe.bind(("127.0.0.1", 0))
        return {name: int(probe.getsockname()[1]) for name, probe in probes.items()}


def impatient(rules: Json) -> Json:
    """The same rules, where every `for` is a second."""
    return {
        "groups": [
            {**group, "rules": [{**rule, "for": "1s"} if "for" in rule else rule for rule in group["rules"]]}
            for group in rules["groups"]
        ]
    }


class Alertmanager:
    """Takes the notifications that Prometheus sends (Alertmanager's API, version 2)."""

    def __init__(self) -> None:
        self._alerts: list[Json] = []
        taken = self._alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/api/v2/alerts":
                    taken.extend(json.loads(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def told_of(self, name: str) -> list[Json]:
        """Notifications of an alert, the last one last; `endsAt` of one that is over has passed."""
        return [alert for alert in list(self._alerts) if alert["labels"]["alertname"] == name]

    def told_it_is_over(self, name: str) -> bool:
        """Whether the last notification says that the alert has ended."""
        return datetime.fromisoformat(self.told_of(name)[-1]["endsAt"]) <= datetime.now(UTC)

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

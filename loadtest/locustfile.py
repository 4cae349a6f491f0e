"""Users of the platform, for Locust: `make loadtest`. Works against any stack by its URL and API keys.

Chat, long prompts, shared prefixes, questions to the documents, embeddings, and impatient users who go away in the
middle of an answer. Each user belongs to a tenant, which is an API key.
"""

import itertools
import time
from random import Random
from typing import Any

from locust import FastHttpUser, LoadTestShape, between, events, stats, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtest.llm_bench.workload import words
from loadtest.users.keys import KeysError, tenants
from loadtest.users.shapes import SHAPES, users_at
from loadtest.users.streams import stream

CHAT = "/v1/chat/completions"
QUESTIONS = (
    "How do I record the current state of my working directory with git stash?",
    "Which system call creates a pipe?",
    "How do I create a VPC with the AWS command line?",
    "What does EXPLAIN ANALYZE show in PostgreSQL?",
    "How do I sort a dictionary by value in Python?",
)
_SYSTEMS = [words(Random(f"system {number}"), 400) for number in range(8)]  # noqa: S311 - load, not secrets
_random = Random("locust")  # noqa: S311


@events.init_command_line_parser.add_listener
def _options(parser: LocustArgumentParser) -> None:
    parser.set_defaults(host="http://127.0.0.1:8000")
    own = parser.add_argument  # not a group's: only the parser's knows is_secret
    own("--keys", env_var="LOADTEST_KEYS", default="", is_secret=True, help="API keys, with commas")
    own("--keys-file", env_var="LOADTEST_KEYS_FILE", default="", help="file with an API key in each line")
    own("--load", choices=SHAPES, default="steady", help="how the number of users changes")
    own("--chat-model", default="smollm2-135m", help="language model")
    own("--rag-model", default="docs", help="model that answers from documents; empty: no such task")
    own("--embedding-model", default="", help="model of embeddings; empty: no such task")
    own("--tokens", type=int, default=64, help="longest answer")


@events.init.add_listener
def _prepare(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    try:
        keys = tenants(options.keys, options.keys_file)
    except KeysError as error:
        raise SystemExit(f"error: {error}") from None
    Tenant.keys = itertools.cycle(keys)


@events.quit.add_listener
def _let_the_csv_end(**_: Any) -> None:
    """Locust closes its CSV files with the figures of up to a second ago: wait for its writer's next turn."""
    time.sleep(stats.CSV_STATS_INTERVAL_SEC + 0.1)  # gevent's, as Locust patches it


class Load(LoadTestShape):
    """The number of users by `--load`, with Locust's own `--users`, `--spawn-rate` and `--run-time`."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Users and spawn rate of this moment."""
        options = self.runner.environment.parsed_options
        peak, seconds = options.num_users or 1, options.run_time or float("inf")
        if seconds == float("inf") and options.load != "steady":
            raise SystemExit(f"error: --load {options.load} needs --run-time")
        users = peak if seconds == float("inf") else users_at(options.load, self.get_run_time(), seconds, peak)
        return None if users is None else (users, options.spawn_rate or peak)


class Tenant(FastHttpUser):
    """Somebody with an API key."""

    abstract = True
    keys = itertools.cycle([""])
    wait_time = between(0.1, 1.0)
    network_timeout = 300.0
    connection_timeout = 10.0

    def on_start(self) -> None:
        """Join the next tenant."""
        self.options = self.environment.parsed_options
        self.auth = {"Authorization": f"Bearer {next(Tenant.keys)}"}

    def ask(self, name: str, prompt: str, *, system: str = "", leave_after: int = 0) -> None:
        """A streamed chat completion."""
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": prompt})
        body = {"model": self.options.chat_model, "messages": messages, "max_tokens": self.options.tokens}
        stream(self, CHAT, body, self.auth, name=name, leave_after=leave_after)


class Patient(Tenant):
    """Reads every answer to its end."""

    weight = 9

    @task(6)
    def chat(self) -> None:
        """A short prompt."""
        self.ask("chat", words(_random, _random.randint(10, 120)))

    @task(2)
    def shared_prefix(self) -> None:
        """One of eight system prompts, as applications have."""
        self.ask("shared prefix", words(_random, 20), system=_random.choice(_SYSTEMS))

    @task(1)
    def long_prompt(self) -> None:
        """A prompt of a thousand words."""
        self.ask("long prompt", words(_random, 1000))

    @task(2)
    def documents(self) -> None:
        """A question to the documents."""
        if self.options.rag_model:
            question = {"role": "user", "content": _random.choice(QUESTIONS)}
            body = {"model": self.options.rag_model, "messages": [question]}
            stream(self, CHAT, body, self.auth, name="documents")

    @task(1)
    def embeddings(self) -> None:
        """Eight passages."""
        if self.options.embedding_model:
            texts = [words(_random, 100) for _ in range(8)]
            body = {"model": self.options.embedding_model, "input": texts}
            self.client.post("/v1/embeddings", json=body, headers=self.auth, name="embeddings")


class Impatient(Tenant):
    """Goes away in the middle of an answer."""

    weight = 1

    @task
    def leave(self) -> None:
        """Read three pieces of text, and close the connection."""
        self.ask("left early", words(_random, 50), leave_after=3)

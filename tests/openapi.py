"""Writes each service's committed openapi.json anew (`make openapi`)."""

from importlib import import_module
from pathlib import Path

SERVICES = ("gateway", "retriever", "reranker", "generator")
ROOT = Path(__file__).resolve().parent.parent


def committed(service: str) -> Path:
    """Where a service's contract is kept."""
    return ROOT / "services" / service / "openapi.json"


def current(service: str) -> str:
    """The contract as the code has it."""
    description: str = import_module(f"capstan.{service}.openapi").description()
    return description + "\n"


if __name__ == "__main__":
    for name in SERVICES:
        committed(name).write_text(current(name))

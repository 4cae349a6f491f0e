"""The service levels' goals, read from where they stand: the recording rules."""

from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Goals:
    """Parts of the requests that must be answered, and must begin within `ttft_s` seconds."""

    availability: float
    ttft: float
    ttft_s: float


def read_goals(rules: Path) -> Goals:
    """The numbers in the group `capstan-goals`, each `vector(number)`."""
    groups = {group["name"]: group["rules"] for group in yaml.safe_load(rules.read_text())["groups"]}
    values = {
        (rule["record"], rule.get("labels", {}).get("slo")): float(rule["expr"].removeprefix("vector(").rstrip(")"))
        for rule in groups["capstan-goals"]
    }
    return Goals(
        values["capstan:slo_objective:ratio", "availability"],
        values["capstan:slo_objective:ratio", "ttft"],
        values["capstan:slo_ttft_goal:seconds", None],
    )

"""Requests that the compatibility tests share, and how they read streams."""

import json
from typing import Any

CHAT: Any = [{"role": "user", "content": "Say hello."}]
WEATHER: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather of a city", "parameters": SCHEMA, "strict": True},
}
FLAT_TOOL: Any = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}
"""The tool as `/v1/responses` takes it."""
ANTHROPIC_TOOL = {"name": "get_weather", "input_schema": SCHEMA, "strict": True}
"""The tool as `/v1/messages` takes it."""


def events(stream: str) -> list[Any]:
    """The JSON of a stream's events."""
    lines = [line[6:] for line in stream.splitlines() if line.startswith("data: ") and line != "data: [DONE]"]
    return [json.loads(line) for line in lines]

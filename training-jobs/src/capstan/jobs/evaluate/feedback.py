"""What users clicked and thought, as a table."""

from collections.abc import Mapping
from typing import Any

import httpx2

from capstan.jobs.evaluate.asking import Headers
from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.results import markdown_table


def read_feedback(url: str, headers: Headers) -> dict[str, Any]:
    """The report of the caller's tenant, of a generator or through a gateway. Raises `EvaluateError`."""
    try:
        response = httpx2.get(f"{url.rstrip('/')}/v1/feedback/report", headers=headers(), timeout=30, trust_env=False)
    except httpx2.TransportError as error:
        raise EvaluateError(f"{url} does not answer ({type(error).__name__}); is it running?") from None
    if not response.is_success:
        raise EvaluateError(f"{url} answered {response.status_code}: {response.text[:300]}")
    report: dict[str, Any] = response.json()
    return report


def feedback_table(report: Mapping[str, Any]) -> str:
    """The generator's feedback report: every list of entries in it is a table, every other value a line."""
    parts = []
    for name, value in report.items():
        if isinstance(value, Mapping) and value and all(isinstance(entry, Mapping) for entry in value.values()):
            value = [{"name": key, **entry} for key, entry in value.items()]
        if isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
            head = list(dict.fromkeys(key for entry in value for key in entry))
            rows = [[_text(entry.get(key)) for key in head] for entry in value]
            parts.append(f"{name}\n\n{markdown_table(head, rows)}")
        else:
            parts.append(f"{name}: {_text(value)}")
    return "\n\n".join(parts)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else "none yet" if value == [] else str(value)

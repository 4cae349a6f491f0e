"""Logs: one JSON object a line on stdout, with the ids that join them to requests and traces."""

import logging
import sys
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from capstan.common.context import request_id
from capstan.common.telemetry import current_trace_id


class _Formatter(JsonFormatter):
    def __init__(self, service: str) -> None:
        super().__init__("%(message)s", rename_fields={"message": "msg"})
        self._service = service

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data["ts"] = self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}"
        log_data["level"] = record.levelname.lower()
        log_data["service"] = self._service
        super().add_fields(log_data, record, message_dict)
        if rid := request_id.get():
            log_data["request_id"] = rid
        if trace_id := current_trace_id():
            log_data["trace_id"] = trace_id


def configure_logging(service: str, level: str = "info") -> None:
    """Send every logger of the process to stdout as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("httpx2", "httpcore2", "uvicorn.access"):
        logging.getLogger(chatty).setLevel("WARNING")

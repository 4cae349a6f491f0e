"""Logs: one JSON object a line on stdout, with the ids that join them to requests and traces."""

import logging
import sys
from types import TracebackType
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from capstan.common.context import request_id
from capstan.common.telemetry import current_ids


class ServiceFormatter(JsonFormatter):
    """A log record as a line of JSON; a traceback is its field `exc_info`."""

    def __init__(self, service: str) -> None:
        super().__init__("%(message)s", rename_fields={"message": "msg"})
        self._service = service

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """python-json-logger: fill in the line's fields."""
        log_data["ts"] = self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}"
        log_data["level"] = record.levelname.lower()
        log_data["service"] = self._service
        super().add_fields(log_data, record, message_dict)
        if rid := request_id.get():
            log_data["request_id"] = rid
        trace_id, span_id = current_ids()
        if trace_id:
            log_data["trace_id"], log_data["span_id"] = trace_id, span_id


def configure_logging(service: str, level: str = "info") -> None:
    """Send every logger of the process to stdout as JSON lines, with Python's warnings and what ends the process."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(ServiceFormatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_crash
    for chatty in ("httpx2", "httpcore2", "uvicorn.access"):
        logging.getLogger(chatty).setLevel("WARNING")


def _log_crash(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, Exception):
        logging.getLogger("capstan").critical("the process ends", exc_info=(kind, error, traceback))
    else:
        sys.__excepthook__(kind, error, traceback)

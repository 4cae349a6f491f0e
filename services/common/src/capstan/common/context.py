"""What is known about the request being served, for logs and for calls made on its behalf."""

import re
import secrets
from contextvars import ContextVar

REQUEST_ID_HEADER = "x-request-id"
request_id: ContextVar[str] = ContextVar("request_id", default="")

_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,128}")


def new_request_id() -> str:
    """A fresh id of 128 random bits."""
    return f"req-{secrets.token_hex(16)}"


def accept_request_id(candidate: str | None) -> str:
    """The caller's request id where it is a plain token of at most 128 characters, else a new one."""
    return candidate if candidate and _ACCEPTABLE.fullmatch(candidate) else new_request_id()

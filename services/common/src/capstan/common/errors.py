"""Errors as OpenAI's API has them: `{"error": {"message", "type", "param", "code"}}`."""

import math
from typing import Any

from starlette.exceptions import HTTPException

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    502: "upstream_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class ApiError(HTTPException):
    """An error that a client sees.

    `code` is the machine's word for it, `message` says what to change, `retry_after` is in seconds
    and set only where waiting helps.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        type: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        all_headers = dict(headers or {})
        if retry_after is not None:
            all_headers["retry-after"] = str(max(1, math.ceil(retry_after)))
        super().__init__(status_code=status, detail=message, headers=all_headers or None)
        self.code = code
        self.param = param
        self.type = type or _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")

    def body(self) -> dict[str, Any]:
        """The JSON body of the response."""
        return error_body(self.detail, self.type, self.code, self.param)


def error_body(message: str, type: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """An OpenAI-shaped error object."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def from_http_exception(error: HTTPException) -> ApiError:
    """The framework's own HTTP errors (unknown route, wrong method, broken JSON) in our shape."""
    if isinstance(error, ApiError):
        return error
    codes = {404: "not_found", 405: "method_not_allowed", 400: "invalid_request"}
    code = codes.get(error.status_code, "http_error")
    return ApiError(error.status_code, code, str(error.detail), headers=dict(error.headers or {}))

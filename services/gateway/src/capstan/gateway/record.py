"""One request's account, filled in along its path."""

from capstan.gateway.config import Price
from capstan.gateway.outcome import Outcome
from capstan.gateway.tap import Usage

UNKNOWN = "unknown"


class Record:
    """What metrics, log, trace and ledger tell of a request. Times are monotonic, in seconds.

    The defaults are the class's, so that making a record costs two assignments.
    """

    tenant: str = UNKNOWN
    model: str = UNKNOWN
    """As the client named it."""
    served: str = ""
    """The model that answered: an arm of a split, or a fallback."""
    price: Price | None = None
    metered: bool = True
    stream: bool = False
    queued_s: float = 0.0
    admitted: float = 0.0
    upstream: str = ""
    sent: float = 0.0
    """To the upstream, the last time."""
    retried: bool = False
    first_byte: float = 0.0
    whole: bool = False
    """The answer was not streamed, so that its first byte says nothing about its first token."""
    upstream_share_s: float = 0.0
    """Time of the upstream: where n requests ran at once, each had 1/n of it."""
    usage: Usage | None = None
    cost: int = 0
    """Micro-dollars."""
    outcome: Outcome = Outcome.INTERNAL_ERROR
    status: int = 0
    trace_id: str = ""
    """Of a request that is traced."""
    span_id: str = ""

    def __init__(self, request_id: str, started: float) -> None:
        self.request_id = request_id
        self.started = started

    def ids(self) -> dict[str, str]:
        """What joins a log line to the request and, if there is one, to its trace."""
        if not self.trace_id:
            return {"request_id": self.request_id}
        return {"request_id": self.request_id, "trace_id": self.trace_id, "span_id": self.span_id}

    def timing(self, now: float) -> bytes:
        """The `server-timing` header line (W3C): milliseconds that the gateway added, and that the request queued."""
        own = now - self.started - self.queued_s - (self.first_byte - self.sent)
        if not self.queued_s:
            return b"server-timing: gateway;dur=%.3f\r\n" % (own * 1e3)
        return b"server-timing: gateway;dur=%.3f, queue;dur=%.3f\r\n" % (own * 1e3, self.queued_s * 1e3)

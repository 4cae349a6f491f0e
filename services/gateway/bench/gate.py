"""What admission costs a request, and what it does under overload: `python services/gateway/bench/gate.py`.

First µs of one core, then, in simulated time, the figures of `tests/admission/test_overload.py`.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from admission.test_overload import CAPACITY, overloaded, peak, quiet

from capstan.gateway.admission import Gate, Ticket
from capstan.gateway.config import Pool

CALLS = 100_000


def enter_and_leave() -> float:
    """Seconds for an entry, a first token and a leave at a gate with room, four tenants in turn."""
    gate = Gate("p", Pool.model_validate({"urls": ["http://x"], "ttft_target_s": 0.5}), time.monotonic)
    tickets = [Ticket(f"tenant-{number % 4}", 2, 100.0, 1e12) for number in range(CALLS)]
    start = time.perf_counter()
    for ticket in tickets:
        gate.try_enter(ticket)
        gate.first_token(0.1)
        gate.leave(ticket, 80.0)
    return (time.perf_counter() - start) / CALLS


def main() -> None:
    """Print."""
    print(f"try_enter + first_token + leave: {1e6 * min(enter_and_leave() for _ in range(5)):.2f} µs")
    for adaptive in (False, True):
        print("limit adapted to TTFT 0.3 s" if adaptive else "limit known to the operator")
        print(f"{'x capacity':>12} {'good/s':>8} {'TTFT p99 ms':>12} {'refused':>8} {'p99 ms':>7} {'late':>6}")
        for times in (0.8, 1.0, 1.25, 1.5, 3.0, 10.0):
            f = overloaded(times, adaptive=adaptive)
            print(
                f"{times:12} {f.goodput:8.2f} {1000 * f.ttft_p99:12.0f} {f.refusals:8} {1000 * f.refusal_p99:7.0f} "
                f"{f.late:6.2%}"
            )
        print(f"goodput at 3x: {overloaded(3.0, adaptive=adaptive).goodput / peak(adaptive=adaptive):.1%} of the peak")
    print(f"without a gate, at 3x: {overloaded(3.0, adaptive=False, gated=False).goodput:.2f} good/s")
    for ttft_s in (0.05, 0.15):
        for rate in (1.0, 3.0, 6.0):
            alone, flooded = quiet(rate, 0.0, ttft_s=ttft_s), quiet(rate, 10 * CAPACITY, ttft_s=ttft_s)
            print(
                f"engine's TTFT {1000 * ttft_s:.0f} ms: quiet tenant at {rate:g}/s beside {10 * CAPACITY:.0f}/s: "
                f"TTFT p99 {1000 * flooded.ttft_p99:.0f} ms, {flooded.ttft_p99 / alone.ttft_p99:.2f} x that alone; "
                f"at the gate {1000 * flooded.wait_p99:.0f} ms, refused {flooded.refusals}"
            )


if __name__ == "__main__":
    main()

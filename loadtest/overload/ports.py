"""Free ports of the loopback interface."""

import socket
from contextlib import ExitStack


def free_ports(number: int) -> list[int]:
    """`number` different ports that nobody listens on now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]

"""Run by test_locust.py in Locust's environment: what users report of servers whose streams break off, as JSON."""

# ruff: noqa: E402 - gevent patches before anything else is imported
import gevent.monkey

gevent.monkey.patch_all()

import json
import socket
import struct
import threading

from locust.contrib.fasthttp import FastHttpUser
from locust.env import Environment

from loadtest.users.streams import stream

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
RESET = struct.pack("ii", 1, 0)


def serve(ending: str) -> int:
    """A server that answers once; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(HEAD + b"%x\r\n%s\r\n" % (len(EVENT), EVENT))
        if ending == "no [DONE]":
            connection.sendall(b"0\r\n\r\n")
        elif ending == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()

    threading.Thread(target=answer, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


reported: dict[str, list[str]] = {}
for name in ("closed", "reset", "no [DONE]"):
    environment = Environment()
    seen = reported[name] = []
    environment.events.request.add_listener(lambda seen=seen, **event: seen.append(str(event["exception"])))
    user = type("User", (FastHttpUser,), {"abstract": True, "host": f"http://127.0.0.1:{serve(name)}"})(environment)
    stream(user, "/v1/chat/completions", {}, {}, name="chat")
print(json.dumps(reported))  # noqa: T201

"""Starts vLLM with the settings that fit this machine, or the simulator: `python -m capstan.worker [--simulate]`."""

import argparse
import importlib.util
import os
import socket
import sys

from capstan.common.checkpoint import prepare
from capstan.common.models import ModelError
from capstan.common.settings import die, load
from capstan.worker import command, machine
from capstan.worker.prepare import prepare_adapters
from capstan.worker.settings import WorkerSettings


def main() -> None:
    """Entry point of `python -m capstan.worker`."""
    parser = argparse.ArgumentParser(prog="capstan.worker", description="Serve a model with vLLM.")
    parser.add_argument("--simulate", action="store_true", help="answer without weights, torch or vLLM")
    parser.add_argument("--print-command", action="store_true", help="print what would be started, and stop")
    arguments = parser.parse_args()
    settings = load(WorkerSettings)
    if arguments.simulate:
        from capstan.worker.simulate.server import run

        run(settings)
        return
    try:
        ready = _command(settings, check=not arguments.print_command)
    except ModelError as error:
        die(str(error))
    except OSError as error:
        die(f"{error.strerror}: {error.filename}; check CAPSTAN_CACHE_DIR")
    if arguments.print_command:
        print(ready)
        return
    # exec, not a child: signals reach vLLM, which drains by itself.
    os.execve(ready.argv[0], ready.argv, dict(os.environ) | ready.env)  # noqa: S606


def _command(settings: WorkerSettings, *, check: bool) -> command.Command:
    if check:
        _require_free_port(settings.host, settings.port)
        _require_engine()
    model = prepare(settings.model, settings.cache_dir, say=lambda line: print(line, file=sys.stderr, flush=True))
    adapters = prepare_adapters(settings.adapters, settings.cache_dir)
    return command.build(settings, model, adapters, machine.inspect(), os.environ)


def _require_engine() -> None:
    if importlib.util.find_spec("vllm") is None:
        die(
            "vLLM is not installed in this environment; install requirements.txt and requirements-engine.txt "
            "of the worker, or start it with --simulate"
        )


def _require_free_port(host: str, port: int) -> None:
    """vLLM would notice only after half a minute, and with a traceback."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            die(f"cannot listen on {host}:{port} ({error.strerror}); stop what uses it or set CAPSTAN_WORKER_PORT")


if __name__ == "__main__":
    main()

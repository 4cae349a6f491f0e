"""`python -m capstan.gateway` serves; `… new-key --file keys.yaml --tenant NAME` makes an API key."""

import argparse
import gc
from pathlib import Path

from capstan.common import telemetry
from capstan.common.logs import configure_logging
from capstan.common.server import serve
from capstan.common.settings import die, load
from capstan.gateway.app import Gateway
from capstan.gateway.config import ConfigError, read_models
from capstan.gateway.settings import GatewaySettings
from capstan.gateway.tenants import add_key


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(prog="capstan-gateway", description="OpenAI-compatible inference gateway.")
    commands = parser.add_subparsers(dest="command")
    key = commands.add_parser("new-key", help="create an API key and print it; only its hash is stored")
    key.add_argument("--file", type=Path, required=True, help="keys.yaml")
    key.add_argument("--tenant", required=True)
    arguments = parser.parse_args()
    try:
        if arguments.command == "new-key":
            print(add_key(arguments.file, arguments.tenant))
        else:
            run()
    except ConfigError as error:
        die(str(error))


def run() -> None:
    """Serve until told to stop."""
    settings = load(GatewaySettings)
    configure_logging("gateway", settings.log_level)
    telemetry.setup_tracing("gateway", sampled_by_caller=True)
    gateway = Gateway(settings, read_models(settings.models_file, settings.extra_models_file))
    gc.freeze()  # what is there now stays: the collector need not look at it again
    serve(
        gateway.control,
        host=settings.host,
        port=settings.port,
        port_setting="CAPSTAN_GATEWAY_PORT",
        lifecycle=gateway.lifecycle,
        drain_s=settings.drain_s,
        delay_s=settings.drain_delay_s,
        http=gateway.edge.protocol,
        keep_alive_s=settings.keep_alive_s,
        prepare=gateway.prepare,
    )


if __name__ == "__main__":
    main()

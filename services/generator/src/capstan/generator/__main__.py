"""`python -m capstan.generator` serves."""

from capstan.common import telemetry
from capstan.common.logs import configure_logging
from capstan.common.server import serve
from capstan.common.settings import load
from capstan.generator.app import create_generator
from capstan.generator.settings import GeneratorSettings


def main() -> None:
    """Serve until told to stop."""
    settings = load(GeneratorSettings)
    configure_logging("generator", settings.log_level)
    telemetry.setup_tracing("generator")
    app = create_generator(settings)
    serve(
        app,
        host=settings.host,
        port=settings.port,
        port_setting="CAPSTAN_GENERATOR_PORT",
        lifecycle=app.state.lifecycle,
        drain_s=settings.drain_s,
    )


if __name__ == "__main__":
    main()

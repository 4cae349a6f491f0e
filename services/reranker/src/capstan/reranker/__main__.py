"""`python -m capstan.reranker` serves."""

from capstan.common import telemetry
from capstan.common.logs import configure_logging
from capstan.common.models import ModelError, ModelRef
from capstan.common.server import serve
from capstan.common.settings import die, load
from capstan.reranker.app import create
from capstan.reranker.scorers import load_scorer
from capstan.reranker.settings import RerankerSettings

ARTIFACT = "training-jobs/artifacts/reranker"
"""In this repository."""


def _hint(model: str) -> str:
    """Where the hub cannot be reached there is a model that needs none."""
    if not model.startswith("hf:"):
        return ""
    return f"; the reranker that was trained here needs neither hub nor PyTorch: file:{ARTIFACT}"


def main() -> None:
    """Serve until told to stop."""
    settings = load(RerankerSettings)
    configure_logging("reranker", settings.log_level)
    telemetry.setup_tracing("reranker")
    try:
        scorer = load_scorer(
            ModelRef.parse(settings.model).resolve(settings.cache_dir),
            settings.cache_dir,
            passage_tokens=settings.passage_tokens,
            threads=settings.threads,
            remember=settings.cache_passages,
        )
    except ModelError as error:
        die(f"CAPSTAN_RERANKER_MODEL={settings.model}: {error}{_hint(settings.model)}")
    app = create(settings, scorer)
    serve(
        app,
        host=settings.host,
        port=settings.port,
        port_setting="CAPSTAN_RERANKER_PORT",
        lifecycle=app.state.lifecycle,
        drain_s=settings.drain_s,
    )


if __name__ == "__main__":
    main()

"""An open index: a collection with the embedder and the chunking that its settings name."""

from capstan.retriever.chunking import Chunker, chunk_sections
from capstan.retriever.embedder import Embedder, view_of
from capstan.retriever.ingest import Ingest
from capstan.retriever.metrics import Metrics
from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.store import VectorStore
from capstan.retriever.tokens import TokenCounter
from capstan.retriever.windows import chunk_windows
from capstan.retriever.worker import Worker


class Index:
    """What can be searched and written; `settings` are those that its collection was made with."""

    def __init__(
        self,
        settings: RetrieverSettings,
        store: VectorStore,
        embedder: Embedder,
        metrics: Metrics,
        *,
        in_use: bool = True,
    ) -> None:
        """`in_use`: searches go here, so its size is what the metrics show."""
        self.settings = settings
        self.store = store
        self.embedder = embedder
        self.view = view_of(settings.heading_path)
        self.worker = Worker(store, embedder, metrics, threads=settings.embed_threads, view=self.view, in_use=in_use)
        self.ingest = Ingest(store, chunker(settings, TokenCounter(embedder.count_words)), self.view)


def chunker(settings: RetrieverSettings, counter: TokenCounter) -> Chunker:
    """How the settings say that documents are cut."""
    if settings.chunking == "window":
        size, overlap = settings.chunk_tokens, settings.window_overlap
        return lambda sections: chunk_windows(sections, counter, size=size, overlap=overlap)
    limit, small = settings.chunk_tokens, settings.small_tokens
    return lambda sections: chunk_sections(sections, counter, limit=limit, small=small)

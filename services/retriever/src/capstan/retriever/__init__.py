"""Documents to chunks to vectors, and BM25, dense and hybrid search over them."""

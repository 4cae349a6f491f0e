"""Scores passages against a query, in the shape of Cohere's, Jina's and vLLM's rerank API."""

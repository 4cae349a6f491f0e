"""Retrieval against a peer framework: the same documents, models and questions, side by side."""

"""Answers questions from the documents, with citations that were checked against their passages."""

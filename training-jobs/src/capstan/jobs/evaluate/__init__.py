"""Evaluation: how good retrieval and answers are, as numbers with intervals, on human-made labels."""

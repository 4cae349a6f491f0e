"""Trains the cross-encoder that orders passages: pairs from the corpus, hard negatives, one int8 ONNX artifact."""

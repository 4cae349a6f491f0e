"""AWQ INT4 checkpoints by llm-compressor: of the native stack's model, and of a merged assistant."""

"""The corpus job: real documentation, as clean text with its structure, for the retriever."""

"""Instructions made of documents: candidates of each kind, quality checks, splits, decontamination, a data card."""

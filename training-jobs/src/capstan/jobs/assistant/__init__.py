"""The domain assistant: instructions from documents, SFT, DPO, evaluation, and the artifact that is served."""

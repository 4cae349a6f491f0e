"""Pretraining: corpus to tokens, a small decoder, its training loop and evaluation, a checkpoint that vLLM serves."""

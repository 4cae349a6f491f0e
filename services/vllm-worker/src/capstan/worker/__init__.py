"""Serves a model with vLLM, or simulates one."""

"""The LoRA adapters as directories that vLLM can read."""

from pathlib import Path

from capstan.common.models import ModelError, ModelRef


def prepare_adapters(adapters: dict[str, str], cache_dir: Path) -> dict[str, Path]:
    """Local directories of LoRA adapters. Raises `ModelError`."""
    paths = {}
    for name, ref in adapters.items():
        paths[name] = ModelRef.parse(ref).resolve(cache_dir)
        if not (paths[name] / "adapter_config.json").is_file():
            raise ModelError(f"adapter {name}: {ref} holds no adapter_config.json")
    return paths

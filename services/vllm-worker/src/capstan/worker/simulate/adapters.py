"""LoRA adapters by name, loaded and unloaded as vLLM does. Nothing is read but whether the adapter is there."""

from collections.abc import ItemsView
from pathlib import Path
from typing import Any

from capstan.worker.simulate.protocol import Refused, require


class Adapters:
    """The adapters that the simulator serves beside its base model."""

    def __init__(self, base: str, adapters: dict[str, str]) -> None:
        self._base = base
        self._paths = dict(adapters)

    def names(self) -> tuple[str, ...]:
        """Names that a request may use as its model."""
        return tuple(self._paths)

    def items(self) -> ItemsView[str, str]:
        """Names and paths."""
        return self._paths.items()

    def load(self, body: dict[str, Any]) -> str:
        """Take an adapter on and say so. Raises `Refused`."""
        name, path = require(body, "lora_name"), require(body, "lora_path")
        if not name or not path:
            raise Refused(400, "Both 'lora_name' and 'lora_path' must be provided.", "InvalidUserInput")
        if name == self._base:
            raise Refused(400, f"The lora adapter '{name}' conflicts with a served base model.", "InvalidUserInput")
        if name in self._paths and not body.get("load_inplace"):
            raise Refused(
                400,
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, "
                "set 'load_inplace' to True.",
                "InvalidUserInput",
            )
        if not (Path(path) / "adapter_config.json").is_file():
            raise Refused(404, f"Loading lora {name} failed: No adapter found for {path}", "NotFoundError")
        self._paths[name] = path
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, body: dict[str, Any]) -> str:
        """Drop an adapter and say so. Raises `Refused`."""
        name = require(body, "lora_name")
        if name not in self._paths:
            raise Refused(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        del self._paths[name]
        return f"Success: LoRA adapter '{name}' removed successfully."

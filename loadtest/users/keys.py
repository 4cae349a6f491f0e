"""API keys of the tenants that users belong to."""

from pathlib import Path

_NATIVE = Path(".capstan/api-key")


class KeysError(Exception):
    """There are no keys; the message says what to give."""


def tenants(keys: str, file: str, native: Path = _NATIVE) -> list[str]:
    """Keys with commas between them, or from a file with one in each line, or the native stack's own."""
    if keys:
        found = keys.split(",")
    elif file or native.exists():
        path = Path(file) if file else native
        try:
            found = path.read_text().splitlines()
        except OSError as error:
            raise KeysError(
                f"{path}: {error.strerror}; give --keys-file a file with one API key in each line"
            ) from None
    else:
        found = []
    found = [key.strip() for key in found if key.strip() and not key.startswith("#")]
    if not found:
        raise KeysError("no API keys: set LOADTEST_KEYS or LOADTEST_KEYS_FILE, or start a stack with 'make run'")
    return found

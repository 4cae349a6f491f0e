"""Reads a job's recipe, and says which key is wrong."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from capstan.jobs.command import JobError

R = TypeVar("R", bound=BaseModel)


def read_recipe(path: Path, kind: type[R], mistake: type[JobError]) -> R:
    """The recipe in `path`. Raises `mistake`, which names the file and the key."""
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise mistake(f"recipe {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise mistake(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise mistake(f"recipe {path}: {where or 'the whole'}: {first['msg']}") from None

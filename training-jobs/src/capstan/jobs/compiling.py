"""Whether PyTorch can compile models here."""

import os
import shutil
from collections.abc import Callable


def can_compile(say: Callable[[str], None]) -> bool:
    """Whether there is the C++ compiler that `torch.compile` needs; without it, says what follows."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler):
        return True
    say(f"no C++ compiler ({compiler}): training is not compiled, and slower; install one, or name it in CXX")
    return False

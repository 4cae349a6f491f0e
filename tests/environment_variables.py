"""The environment variables of the repository's code: settings by their classes, and what is read directly."""

import re
from importlib import import_module

from documents import ROOT

from capstan.common.settings import environment_names

_SOURCES = ("services/*/src", "training-jobs/src", "native/src")
_CLASS = re.compile(r"^class (\w+)\((?:\w*Settings)\)", re.MULTILINE)
_READ = re.compile(r'environ\.get\("(\w+)"|env_var="(\w+)"|"(CAPSTAN_[A-Z0-9_]+[A-Z])"')
_FOR_TESTS = re.compile(r'"(CAPSTAN_TEST_\w+)"')
_MAKE = re.compile(r"\$[({](\w+)[)}]|^export (.+)$", re.MULTILINE)


def settings_classes() -> list[tuple[str, str]]:
    """Each class of settings, as `module:name`, with its room: a service, `training-jobs` or `native`.

    Those of `capstan.common` are bases of the others, and have their names there.
    """
    return [
        (str(source.parent.relative_to(ROOT)), f"{'.'.join(file.relative_to(source).with_suffix('').parts)}:{name}")
        for source in (path for glob in _SOURCES for path in ROOT.glob(glob))
        for file in sorted(source.rglob("*.py"))
        for name in _CLASS.findall(file.read_text())
        if source.parent.name != "common"
    ]


def names_of(settings_class: str) -> set[str]:
    """The environment variables of a class, given as `module:name`."""
    module, _, name = settings_class.partition(":")
    return set(environment_names(getattr(import_module(module), name)).values())


def settings() -> set[str]:
    """The names of all settings."""
    return {name for _, cls in settings_classes() for name in names_of(cls)}


def read_directly() -> set[str]:
    """Names that code reads past the classes of settings, or hands to a process; of tests, those made for them."""
    folders = ("services", "training-jobs", "native", "loadtest", "compose", "docs", "tests")
    found = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        pattern = _FOR_TESTS if "tests" in path.parts else _READ
        found |= {match[match.lastindex or 0] for match in pattern.finditer(path.read_text())}
    return found


def of_make() -> set[str]:
    """Variables that the Makefile reads or hands on."""
    return {name for found in _MAKE.findall((ROOT / "Makefile").read_text()) for name in " ".join(found).split()}

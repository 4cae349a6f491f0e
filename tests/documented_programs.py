"""Holds the calls of documents against the programs that they start."""

import argparse
import importlib.util
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import environment_variables
import helm_tools
import openapi
import pytest
from compose_stack import COMPOSE
from documented_calls import Call, HollowCheckout, NotShell
from documents import ROOT

BOOTSTRAP = ROOT / "native/bootstrap.py"
OF_THE_SYSTEM = ("apt", "awk", "cat", "openssl", "rm")
ELSEWHERE = ("cosign", "kind")
"""Programs that are not here: whoever documents them marks the block."""
STANDARD = {"HF_TOKEN", "OTEL_EXPORTER_OTLP_ENDPOINT", "WANDB_MODE"}
"""Variables of libraries."""
_FILES = (".py", ".txt", ".yaml", "")


class Wrong(Exception):
    """What a document says cannot be done; the message says why."""


class _Parsed(BaseException):
    """The program has understood its arguments."""


def problems(text: str, near: Path, checkout: HollowCheckout) -> list[str]:
    """What is wrong with a script; `near`: where its document is, from where it may name files too."""
    found = []
    try:
        for call in checkout.shell(text):
            try:
                Checks(near, checkout).check(call)
            except Wrong as wrong:
                found.append(f"{call}: {wrong}")
    except NotShell as error:
        found.append(str(error))
    return found


class Checks:
    """Holds calls against the programs that they start."""

    def __init__(self, near: Path, checkout: HollowCheckout) -> None:
        self._bases, self._checkout = (ROOT, near), checkout

    def check(self, call: Call) -> None:
        """Raises `Wrong`."""
        if unknown := call.variables - variables():
            raise Wrong(f"nothing reads {', '.join(sorted(unknown))}")
        for word in call.words[1:]:
            self._files_exist(word.rpartition("=")[2])
        match call.words:
            case ["make", *arguments]:
                self._make(arguments)
            case ["python" | "python3", *arguments]:
                self._python(arguments, call.directory)
            case ["torchrun", *arguments]:
                self._torchrun(arguments)
            case ["docker", "compose", *arguments]:
                _compose(arguments)
            case ["helm", *arguments]:
                _helm(arguments)
            case ["kubectl", *arguments]:
                _accepts([_installed("kubectl"), *arguments])
            case ["pip", "install", *arguments]:
                for option, file in pairwise(arguments):
                    if option == "-r":
                        self._found(file)
            case ["curl", *arguments]:
                _curl(arguments)
            case [program, *_] if program in (*OF_THE_SYSTEM, *ELSEWHERE):
                pass
            case [program] if program.startswith("./") and (ROOT / call.directory / program).exists():
                pass
            case _:
                raise Wrong("no test knows this program")

    def _files_exist(self, word: str) -> None:
        of_a_kind = re.fullmatch(r"[\w-]+/[\w./-]+", word) and Path(word).suffix in _FILES
        if of_a_kind and any((base / word.partition("/")[0]).is_dir() for base in self._bases):
            self._found(word)

    def _found(self, word: str, directory: Path = Path()) -> Path:
        for base in (ROOT / directory, *self._bases):
            if (base / word).exists():
                return (base / word).resolve()
        raise Wrong(f"there is no {word}")

    def _make(self, arguments: Sequence[str]) -> None:
        given = {name for name, equals, _ in (word.partition("=") for word in arguments) if equals}
        if unknown := given - variables():
            raise Wrong(f"nothing reads {', '.join(sorted(unknown))}")
        try:
            for call in self._checkout.make(arguments):
                self.check(Call(call.words, call.directory))
        except NotShell as error:
            raise Wrong(str(error)) from None

    def _torchrun(self, arguments: Sequence[str]) -> None:
        from torch.distributed.run import get_args_parser  # slow

        found = get_args_parser().parse_args(arguments)
        self._python([*(["-m"] if found.module else []), found.training_script, *found.training_script_args], Path())

    def _python(self, arguments: Sequence[str], directory: Path) -> None:
        match arguments:
            case ["-c", code]:
                compile(code, "-c", "exec")
            case ["-m"]:  # the option by itself, in a text
                pass
            case ["-m", module, *rest]:
                _module(module, rest)
            case [script, *rest]:
                path = self._found(script, directory)
                if path == BOOTSTRAP:
                    self._bootstrap(rest)
                else:
                    _program(path, rest)

    def _bootstrap(self, arguments: Sequence[str]) -> None:
        commands = runpy.run_path(str(BOOTSTRAP))["COMMANDS"]
        match arguments:
            case [name, *rest] if name in commands:
                self._python([*commands[name].arguments, *rest], Path())
            case _:
                raise Wrong(f"native/bootstrap.py has no command {' '.join(arguments)}")


@cache
def variables() -> frozenset[str]:
    """Every variable that something reads."""
    found = environment_variables
    return frozenset({*found.settings(), *found.read_directly(), *found.of_make(), *STANDARD})


def _module(module: str, arguments: Sequence[str]) -> None:
    match module:
        case "pytest":
            if missing := [word for word in arguments if not word.startswith("-") and not (ROOT / word).exists()]:
                raise Wrong(f"there is no {missing[0]}")
        case "ruff":
            _accepts([sys.executable, "-m", "ruff", *arguments])
        case "locust":  # lists its users where it has understood its arguments
            _ends_well([sys.executable, str(BOOTSTRAP), "loadtest", *arguments[2:], "--list"])
        case _:
            _program(_file_of(module), arguments)


def _file_of(module: str) -> Path:
    for name in (f"{module}.__main__", module):
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            continue
        if found and found.origin:
            return Path(found.origin)
    raise Wrong(f"there is no module {module}")


def _program(path: Path, arguments: Sequence[str]) -> None:
    """Start a Python program and stop it where it has parsed its arguments."""
    if not arguments:  # named, or started as it is
        return
    if ROOT in path.parents and "parse_args()" not in path.read_text():
        raise Wrong(f"it takes no arguments, so not {' '.join(arguments)}")
    parse, errors = argparse.ArgumentParser.parse_args, io.StringIO()

    def parse_and_stop(parser: argparse.ArgumentParser, *given: object, **named: object) -> None:
        parse(parser, *given, **named)
        raise _Parsed

    with pytest.MonkeyPatch.context() as patch, redirect_stderr(errors):
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patch.setattr(sys, "argv", [str(path), *arguments])
        try:
            runpy.run_path(str(path), run_name="__main__")
        except _Parsed:
            return
        except SystemExit:
            raise Wrong(errors.getvalue().strip().rpartition("\n")[2]) from None
    raise Wrong("it did not parse its arguments")


def _compose(arguments: Sequence[str]) -> None:
    _ends_well([COMPOSE, arguments[0], "--help", *arguments[1:]])  # at the end it would be the container's
    text = "".join(path.read_text() for path in (ROOT / "compose").glob("compose*.yaml"))
    for option, value in pairwise(arguments):
        service = value.partition("=")[0]
        if option == "--scale" and not re.search(rf"^  {service}:$", text, re.MULTILINE):
            raise Wrong(f"there is no service {service}")


def _helm(arguments: Sequence[str]) -> None:
    try:
        program = helm_tools.helm("4")
    except helm_tools.ToolUnavailable as error:
        pytest.skip(f"Helm is not to be had here: {error}")
    _accepts([str(program), *arguments])


def _installed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def _accepts(command: Sequence[str]) -> None:
    own = command[: command.index("--")] if "--" in command else command
    _ends_well([*own, "--help"])


@cache
def _outcome(command: tuple[str, ...]) -> str | None:
    environment = {**os.environ, "DOCKER_HOST": "unix:///dev/null", "KUBECONFIG": "/dev/null"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip()


def _ends_well(command: Sequence[str]) -> None:
    if (said := _outcome(tuple(command))) is not None:
        raise Wrong(said)


def _curl(arguments: Sequence[str]) -> None:
    options = dict(pairwise(arguments))
    path = urlsplit(next(word for word in arguments if "://" in word)).path
    body = options.get("-d")
    method = options.get("-X", "GET" if body is None else "POST")
    if not any(re.fullmatch(route, f"{method} {path}") for route in routes()):
        raise Wrong(f"no service has the route {method} {path}")
    if body is not None:
        try:
            json.loads(body)
        except ValueError:
            raise Wrong(f"what is sent is no JSON: {body}") from None


@cache
def routes() -> tuple[str, ...]:
    """Every route of the committed contracts, as a pattern."""
    return tuple(
        re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(f"{method.upper()} {path}"))
        for service in openapi.SERVICES
        for path, methods in json.loads(openapi.committed(service).read_text())["paths"].items()
        for method in methods
    )

"""The aws command line's own commands and argument parsers. Nothing is sent, and no file is read.

Required and unknown options, choices, shorthand and JSON are judged by the code that `aws` itself runs (awscli on
PyPI, `clidriver.py`, `argprocess.py`): what it would send, two spellings of one command have in common.
"""

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from awscli.argparser import ArgTableArgParser
from awscli.argprocess import ParamError
from awscli.clidriver import CLIDriver, EnvironmentVariables, ServiceCommand, ServiceOperation
from awscli.customizations.commands import BasicCommand
from awscli.paramfile import LOCAL_PREFIX_MAP, REMOTE_PREFIX_MAP
from awscli.plugin import load_plugins

from botocore.session import Session  # isort: skip (awscli brings its own, once it is imported)

_FILE = re.compile(r"^(?:file|fileb|https?)://")
_CHOICE = re.compile(r"invalid choice", re.IGNORECASE)


class CommandError(Exception):
    """The parser refuses a command; the message is a phrase to count by."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a command asks for: its names ("ec2", "create-vpc"), and the values of its options by name.

    `shared` are the options that every command has (`--region`).
    """

    names: tuple[str, ...]
    values: dict[str, Any]
    shared: dict[str, Any]


class AwsCli:
    """Parses commands. Loads a service's model when its first command is parsed (about 0.2 s)."""

    def __init__(self) -> None:
        self._session = Session(EnvironmentVariables)
        for name in ("config_file", "credentials_file"):  # what a user has configured is no part of a command
            self._session.set_config_variable(name, os.devnull)
        for readers in (LOCAL_PREFIX_MAP, REMOTE_PREFIX_MAP):  # of file:// and http:// values, even inside shorthand
            readers.clear()
        load_plugins({}, event_hooks=self._session.get_component("event_emitter"))
        driver = CLIDriver(self._session)
        self._commands = driver._get_command_table()
        self._parser = driver._create_parser(self._commands)

    def service(self, name: str) -> str | None:
        """The name of a service as people know it ("CodeArtifact"), or None for a command that is no service."""
        command = self._commands.get(name)
        return str(command.service_model.service_id) if isinstance(command, ServiceCommand) else None

    def parse(self, command: str) -> Call:
        """What `command` asks for. Raises `CommandError`."""
        try:
            words = shlex.split(command)
        except ValueError:
            raise CommandError("unbalanced quotes") from None
        if not words or words[0] != "aws":
            raise CommandError("not an aws command")
        shared, rest = _known(self._parser, words[1:], "no such service")
        names = [shared["command"]]
        try:
            values = self._descend(self._commands[names[0]], names, rest, argparse.Namespace(**shared))
        except (ParamError, ValueError, KeyError, TypeError, OSError):
            raise CommandError("a value that cannot be parsed") from None
        del shared["command"]
        return Call(tuple(names), values, _set(shared))

    def _descend(self, command: Any, names: list[str], rest: list[str], shared: argparse.Namespace) -> dict[str, Any]:
        """Follow subcommands down to the one that takes the options, and add to `names`; its options."""
        while True:
            if isinstance(command, ServiceCommand):
                found, rest = _known(command._create_parser(), rest)
                names.append(found["operation"])
                command = command._get_command_table()[names[-1]]
            elif isinstance(command, ServiceOperation):
                return self._operation(command, rest, shared)
            elif isinstance(command, BasicCommand):
                found, rest = _known(ArgTableArgParser(command.arg_table, command.subcommand_table), rest)
                below = found.pop("subcommand", None)
                if below is None:
                    _nothing_left(rest)
                    return _set(found)
                names.append(below)
                command = command.subcommand_table[below]
            else:
                raise CommandError("help is not a command")

    def _operation(self, operation: Any, words: list[str], shared: argparse.Namespace) -> dict[str, Any]:
        """Values of an operation's options, as they would be sent."""
        table = operation.arg_table
        found, rest = _known(operation._create_operation_parser(table), words)
        _nothing_left(rest)
        kept = {}
        for argument in table.values():
            value = found.get(argument.py_name)
            only = value[0] if isinstance(value, list) and len(value) == 1 else value
            if isinstance(only, str) and (_FILE.match(only) or _is_file(argument)):
                kept[argument.name] = only
                found[argument.py_name] = None
        return {**operation._build_call_parameters(argparse.Namespace(**found), table, shared), **kept}


@cache
def aws_cli() -> AwsCli:
    """The parser of this process: its models are loaded once."""
    return AwsCli()


def _known(
    parser: argparse.ArgumentParser, words: Sequence[str], unknown: str = "no such operation"
) -> tuple[dict[str, Any], list[str]]:
    """What a parser finds, and what is left. Raises `CommandError`; `unknown` is for a name that is none of its own."""

    def refuse(message: str) -> None:
        if _CHOICE.search(message):
            raise CommandError("an option that does not take this" if message.startswith("argument -") else unknown)
        raise CommandError("a required option is missing" if "required" in message else "an option without a value")

    def leave(status: int = 0, message: str | None = None) -> None:
        raise CommandError("a version is asked for")

    parser.error = refuse  # type: ignore[assignment,method-assign]
    parser.exit = leave  # type: ignore[assignment,method-assign]  # it would end this process
    parser._print_message = lambda *_: None  # type: ignore[method-assign]
    found, rest = parser.parse_known_args(list(words))
    return dict(vars(found)), rest


def _nothing_left(rest: Sequence[str]) -> None:
    if rest:
        raise CommandError("an option that does not exist" if rest[0].startswith("-") else "an argument too many")


def _is_file(argument: Any) -> bool:
    """Whether `aws` would read the value's file."""
    model = argument.argument_model
    return model is not None and model.type_name == "blob"


def _set(values: dict[str, Any]) -> dict[str, Any]:
    """The options that differ from none: a flag that is not given is False."""
    return {name: value for name, value in values.items() if value is not None and value is not False}

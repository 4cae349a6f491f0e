"""An aws command is right when `aws` would send the same request for it as for the reference."""

import shlex

from capstan.jobs.assistant.checkers.awscli import Call, CommandError, aws_cli
from capstan.jobs.assistant.checkers.text import command
from capstan.jobs.assistant.checkers.verdict import ABSENT, Verdict, right, wrong
from capstan.jobs.assistant.items import Item


def check(item: Item, answer: str) -> Verdict:
    """`item.check` is `{"command": the reference}`: service, operation, options and their values have to agree."""
    found = command(answer, "aws")
    if found is None:
        return wrong(ABSENT)
    try:
        call = aws_cli().parse(found)
    except CommandError as error:
        return wrong(str(error))
    wanted = aws_cli().parse(item.check["command"])
    reason = _difference(call, wanted)
    return wrong(reason) if reason else right(exact=answer.strip() == item.reference)


def _difference(call: Call, wanted: Call) -> str | None:
    if call.names[0] != wanted.names[0]:
        return "another service"
    if call.names != wanted.names:
        return "another operation"
    if call.values.keys() != wanted.values.keys() or call.shared.keys() != wanted.shared.keys():
        return "other options"
    return None if (call.values, call.shared) == (wanted.values, wanted.shared) else "another value"


def canonical(text: str) -> str:
    """A command as references are written: on one line, values behind a space, quoted only where a shell needs it.

    Raises ValueError for unbalanced quotes.
    """
    words: list[str] = []
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        words += [name, value] if equals and name.startswith("--") else [word]
    return shlex.join(words)

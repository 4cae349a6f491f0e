"""Titled examples of the aws command line: the task and its values in words, and the one command that does it."""

import random
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from capstan.jobs.assistant.checkers.aws import canonical
from capstan.jobs.assistant.checkers.awscli import Call, CommandError, aws_cli
from capstan.jobs.assistant.data.drafts import Document, Draft, Refused, dice, say
from capstan.jobs.evaluate.verifier import content_words
from capstan.jobs.reranker.phrasing import instruction

SYSTEM = "Answer with the aws command alone, on one line, with long options."
COMMAND = re.compile(r"```[^\n]*\n\s*(aws .*?)\n```", re.DOTALL)
_BACKSLASH = re.compile(r"\\\w")
"""In a path of Windows; a shell would swallow it."""
_EXAMPLE = re.compile(r"^(?:Example|Sample)?\s*\d*\s*[:.)]?\s*", re.IGNORECASE)
_FOLLOWING = re.compile(
    r"^(?:The following|This)\b[^.\n]{0,60}?\b(?:example|command)\b(?: command)? (?P<does>[^\n]+?)\.(?:\s|$)"
)
_REST = re.compile(r"[`*]")
_PLACEHOLDER = re.compile(r"[<>|;&$]|\.\.\.|\(|\bvalue\d?\b")
_OTHER_OPTIONS = {
    "query",
    "cli-input-json",
    "generate-cli-skeleton",
    "output",
    "endpoint-url",
    "debug",
    "cli-input-yaml",
}
_CAPITALS = {
    word.lower(): word
    for word in re.findall(
        r"\w+",
        """ID ARN VPC CIDR KMS AMI DB URL URI IP SNS SQS S3 EC2 API MFA ACL DNS TTL IAM EBS SSL TLS HTTP HTTPS JSON XML
        SSH SAML OIDC CA NAT IPv4 IPv6 IPAM MAC LDAP""",
    )
} | {"ids": "IDs", "arns": "ARNs", "urls": "URLs", "ips": "IPs"}
_MOST_OPTIONS = 5
_MOST_CHARACTERS = 230
_LONG_VALUE = 110
_NAMED = 0.6
"""Share of the words of an operation's noun that the instruction has to hold."""

Pair = tuple[str, str | None]
"""The name of an option in words and its value as a shell reads it; a flag has no value."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done, as an imperative without a full stop, and the values that it does not name."""

    text: str
    pairs: tuple[Pair, ...]


def drafts(document: Document, family: str, seed: int, refused: Refused) -> Iterator[Draft]:
    """Drafts of a page of examples, one for each title with one command."""
    for number, section in enumerate(document["sections"]):
        rng = dice(seed, document["id"], number)
        made = _draft(document, section["heading"], section["text"], family, rng)
        if isinstance(made, str):
            refused.add("aws", made)
        else:
            yield made


def command_of(text: str) -> str | None:
    """The one command of a section, on one line, or None."""
    commands = COMMAND.findall(text)
    if len(commands) != 1:
        return None
    command = re.sub(r"\\\s*\n", " ", commands[0])
    if _BACKSLASH.search(command):
        return None
    try:
        return canonical(command)
    except ValueError:
        return None


def title_of(heading: Sequence[str]) -> str | None:
    """A section's title as an imperative ("create a VPC"), or None."""
    title = _REST.sub("", _EXAMPLE.sub("", heading[-1])).strip().rstrip(".:") if heading else ""
    if title.lower().startswith("to "):
        title = title[3:]
        return title if 2 <= len(title.split()) <= 20 and title[0].islower() else None
    return instruction(title)


def _draft(document: Document, heading: Sequence[str], text: str, family: str, rng: random.Random) -> Draft | str:
    """A draft, or why there is none."""
    command = command_of(text)
    if command is None:
        return "not one command"
    try:
        call = aws_cli().parse(command)
    except CommandError as error:
        return f"the parser refuses: {error}"
    if reason := _unfit(command, call):
        return reason
    title = title_of(heading)
    if title is None:
        return "no task in the title"
    words = shlex.split(command)[len(call.names) + 1 :]
    task = _task(title, text, pairs_of(words), rng)
    service = _service(call.names[0], rng)
    prompt = ask(task, service, rng)
    if not _names(prompt, call.names):
        return "the operation is not to be guessed"
    name = " ".join(call.names)
    return Draft("aws", f"awscli:{name}", family, say(SYSTEM, prompt), command, {"command": command})


def _unfit(command: str, call: Call) -> str | None:
    given = {word.removeprefix("--") for word in shlex.split(command) if word.startswith("--")}
    if given & _OTHER_OPTIONS:
        return "options that shape the output or read it from a file"
    if len(given) > _MOST_OPTIONS or len(command) > _MOST_CHARACTERS:
        return "too long"
    if _PLACEHOLDER.search(command) or not command.isascii():
        return "a placeholder"
    if "outfile" in call.values:
        return "an output file"
    return "a long value" if any(len(word) > _LONG_VALUE for word in shlex.split(command)) else None


def pairs_of(words: Sequence[str]) -> tuple[Pair, ...]:
    """Names and values of a command's options; words before the first option are paths."""
    pairs: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith("--"):
            pairs.append((spoken(word), []))
        elif pairs and pairs[-1][0] != "path":
            pairs[-1][1].append(word)
        else:
            pairs.append(("path", [word]))
    return tuple((name, shlex.join(values) if values else None) for name, values in pairs)


def spoken(option: str) -> str:
    """The name of an option in words: `--vpc-id` is "VPC ID"."""
    return " ".join(_CAPITALS.get(word, word) for word in option.strip("-").split("-"))


def _task(title: str, text: str, pairs: tuple[Pair, ...], rng: random.Random) -> Task:
    """By the title; where the description names values, often by that."""
    said = _FOLLOWING.match(_REST.sub("", text))
    does = instruction(said["does"]) if said else None
    if does and len(does.split()) <= 32 and rng.random() < 0.7:
        left = tuple(pair for pair in pairs if not _holds(does, pair[1]))
        if len(left) < len(pairs):
            return Task(does, left)
    return Task(title, pairs)


def _holds(text: str, value: str | None) -> bool:
    """Whether a text names a value; one of fewer than three characters may stand there for something else."""
    if value is None or len(value) < 3 or value.isalpha():
        return False
    return re.search(rf"(?<![\w.-]){re.escape(value)}(?![\w-]|\.\w)", text) is not None


def _names(prompt: str, names: Sequence[str]) -> bool:
    """Whether the prompt has most words of what the operation acts on."""
    noun = names[-1].split("-")[1:] if len(names) == 2 else names[-1].split("-")
    wanted = set(content_words(" ".join(noun)))
    return len(wanted & set(content_words(prompt.replace("-", " ")))) >= _NAMED * len(wanted)


def _service(name: str, rng: random.Random) -> str:
    """How the service is called in a prompt: as the command line does, or as people do where that is close."""
    known = aws_cli().service(name)
    plain = re.sub(r"[^a-z0-9]", "", known.lower()) if known else ""
    return known if known and plain == name.replace("-", "") and rng.random() < 0.5 else f"aws {name}"


_OPENINGS = (
    "{Task} in {service}",
    "{Task} with {service}",
    "In {service}, {task}",
    "With {service}, {task}",
    "{service}: {task}",
    "I want to {task} in {service}",
    "Use {service} to {task}",
    "Write the {service} command to {task}",
    "How do I {task} in {service}?",
    "Which {service} command do I need to {task}?",
)


def ask(task: Task, service: str, rng: random.Random) -> str:
    """The instruction in one of many wordings, with all values."""
    opening = rng.choice(_OPENINGS).format(task=task.text, Task=task.text[0].upper() + task.text[1:], service=service)
    end = "" if opening.endswith("?") else "."
    if not task.pairs:
        return opening + end
    style = rng.choice((_with, _listed, _used, _bracketed))
    return style(opening.rstrip("?"), end or "?", task.pairs)


def _with(opening: str, end: str, pairs: Sequence[Pair]) -> str:
    """Create a VPC in aws ec2, with the CIDR block 10.0.0.0/16."""
    return f"{opening}, with {_and([f'the {n} {v}' if v else f'the {n} option' for n, v in pairs])}{_shut(end, pairs)}"


def _listed(opening: str, end: str, pairs: Sequence[Pair]) -> str:
    """Create a VPC in aws ec2. CIDR block: 10.0.0.0/16."""
    said = "; ".join(f"{n}: {v}" if v else f"{n}: yes" for n, v in pairs)
    return f"{opening}{end} {said[0].upper()}{said[1:]}"


def _used(opening: str, end: str, pairs: Sequence[Pair]) -> str:
    """Create a VPC in aws ec2. Use 10.0.0.0/16 as the CIDR block."""
    return f"{opening}{end} Use {_and([f'{v} as the {n}' if v else f'the option {n}' for n, v in pairs])}."


def _bracketed(opening: str, end: str, pairs: Sequence[Pair]) -> str:
    """Create a VPC in aws ec2 (CIDR block 10.0.0.0/16)."""
    return f"{opening} ({', '.join(f'{n} {v}' if v else n for n, v in pairs)}){end}"


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _shut(end: str, pairs: Sequence[Pair]) -> str:
    """No full stop behind a value: it might be read as a part of it."""
    return end if end == "?" or pairs[-1][1] is None else ""

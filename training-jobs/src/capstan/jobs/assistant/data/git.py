"""Options of git's commands: what one or two of them do, and the command that has them."""

import random
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from capstan.jobs.assistant.data.drafts import Document, Draft, Refused, dice, say
from capstan.jobs.assistant.data.manual import Entry, entries, names_of, told_apart

SYSTEM = "Answer with the git command alone, on one line, with long options."
_TITLE = re.compile(r"^git-(?P<name>[a-z-]+)\(1\): ")
_PLACEHOLDER = re.compile(r"<[\w-]+>")
_VALUES: dict[str, Sequence[str]] = {
    **dict.fromkeys(
        ("n", "num", "number", "count", "depth", "lines", "width", "limit"), ("1", "2", "3", "4", "5", "8", "10", "12")
    ),
    **dict.fromkeys(("file", "path", "filename", "pathspec"), ("notes.txt", "src/main.c", "README", "list.txt")),
    **dict.fromkeys(("dir", "directory", "git-dir"), ("build", "docs", "../backup", "tools/bin")),
    **dict.fromkeys(("branch", "branchname", "name", "prefix"), ("topic", "release", "fix-login", "v2")),
    **dict.fromkeys(("commit", "rev", "revision", "object", "base"), ("HEAD~3", "v1.2", "origin/main", "a1b2c3d")),
    **dict.fromkeys(("msg", "message", "string", "text"), ("done", "first version", "as agreed")),
    **dict.fromkeys(("date", "time", "since"), ("2024-03-01", "yesterday", "2.weeks.ago")),
    **dict.fromkeys(("pattern", "glob", "regex"), ("*.txt", "v1.*", "fix")),
    **dict.fromkeys(("remote", "repository", "upstream"), ("origin", "backup")),
    **dict.fromkeys(("author", "email"), ("Ada <ada@example.org>",)),
}
_WITH_TWO = 0.35
_ASKS = (
    "With git {name}: {tasks}.",
    "Use git {name}. {Tasks}.",
    "Run git {name} so that this holds: {tasks}.",
    "What is the git {name} command for this? {Tasks}.",
    "git {name}: {tasks}.",
    "{Tasks}. Which git {name} command does that?",
)


def drafts(document: Document, family: str, seed: int, refused: Refused) -> Iterator[Draft]:
    """Drafts of the page of a git command."""
    title = _TITLE.match(document["title"])
    if title is None:
        return
    fit: list[Entry] = []
    for entry in told_apart(entries(document)):
        if reason := _unfit(entry):
            refused.add("git", reason)
        else:
            fit.append(entry)
    known = sorted(name for name in names_of(document) if name.startswith("-"))
    for number, entry in enumerate(fit):
        rng = dice(seed, document["id"], "git", number)
        others = [other for other in fit if other is not entry]
        pair = [rng.choice(others)] if others and rng.random() < _WITH_TWO else []
        yield _draft(title["name"], [entry, *pair], known, family, rng)


def _unfit(entry: Entry) -> str | None:
    if not entry.names[0].startswith("--"):
        return "no long name"
    if any(name in entry.text.split() for name in entry.names):
        return "the description holds the name"
    if entry.argument and not entry.optional and entry.argument not in _VALUES:
        return "an argument of an unknown kind"
    return None if entry.inferable else "the name is not to be guessed"


def _draft(name: str, chosen: Sequence[Entry], known: list[str], family: str, rng: random.Random) -> Draft:
    told, words, options = [], ["git", name], list[dict[str, Any]]()
    for entry in chosen:
        value = rng.choice(_VALUES[entry.argument]) if entry.argument and not entry.optional else None
        text = entry.text[0].lower() + entry.text[1:] if entry.text[1:2].islower() else entry.text
        told.append(_PLACEHOLDER.sub(lambda m: m.group().strip("<>"), text) + (_stated(entry, value) if value else ""))
        words.append(entry.names[0] if value is None else f"{entry.names[0]}={value}")
        options.append({"names": list(entry.names), "value": value})
    tasks = "; also, ".join(told)
    prompt = rng.choice(_ASKS).format(name=name, tasks=tasks, Tasks=tasks[0].upper() + tasks[1:])
    check = {"subcommand": name, "options": options, "known": known}
    return Draft("git", f"git-doc:git-{name}", family, say(SYSTEM, prompt), shlex.join(words), check)


def _stated(entry: Entry, value: str) -> str:
    return f" ({entry.argument} is {shlex.quote(value)})"

"""The data card: what the manifest says, around text about what the items are for."""

from collections.abc import Mapping
from typing import Any

from capstan.jobs.assistant.items import KINDS, SPLITS

_TEMPLATE = """---
language: en
task_categories: [text-generation]
---

# Instructions for a documentation assistant

{total:,} items made by program from technical documentation: an instruction, the answer to learn, and what a checker
needs to judge another answer. No model wrote any of it. Made to teach a small language model the commands of this
domain and the answer format of a RAG service, and to measure whether it has learned them.

## Items

{table}

- `aws`: the titled examples of the AWS CLI's documentation. The instruction is the title or the description, with every
  value of the command; the answer is the command on one line. An answer is right when aws's own argument parser would
  send the same request for it.
- `option`: what a manual says about an option or constant; the answer is its name, often out of a few. Right is every
  spelling that the manual gives, and nothing beside it.
- `git`: the same for git's commands, one or two options with their values; order and spelling are free.
- `sql`: questions about tables that the documentation of PostgreSQL and SQLite creates. Tables are real, questions and
  statements are written by templates. An answer is right when it has the effect of the reference in SQLite, on four
  fillings of the table.
- `grounded`: questions with one to four passages in the prompt of Capstan's generator. The answer is the passage's own
  words with its number behind each sentence; where no passage answers, it is the abstention. An answer is right when
  each sentence cites a passage that supports it (by words) and it says what the reference says.

## Splits

A split is by source, never by wording: an aws command with all commands of its service on the same noun, a manual page
with all pages that share much of its text, a table with all tables of its name. Passages beside the right one come from
the same split. Held out are {held_out:.0%} of the families for test and {validated:.0%} for validation.

Nothing that is held out shares a sequence of {overlap} words with training, or has a prompt that is nearly the same
(Jaccard similarity of three-word shingles of {near} or more). No item shares such a sequence with a labelled test
question of the RAG evaluation or its answer, asks nearly the same, or has a passage of a document that answers one.

## Refused

{refused}

## Limits

- English; the style is that of documentation, and the wordings come from a few dozen templates.
- `aws` prompts name all values. People leave some out; then there is no one right command.
- `option` and `git` prompts use the manual's own sentence, so that the name can be guessed from it.
- An unanswerable item may hold an answer in other words than those that were looked for, and an answer that cites
  another passage than the reference's counts as wrong even where that passage happens to answer, too.
- Licences are those of the documents, named in the corpus manifest: text of GPL, PostgreSQL, PSF, Artistic and Apache
  licensed documentation is in the prompts and answers.
"""


def data_card(manifest: Mapping[str, Any]) -> str:
    """Markdown. `manifest` is the data's."""
    plan = manifest["plan"]
    return _TEMPLATE.format(
        total=sum(split["items"] for split in manifest["splits"].values()),
        table=_table(manifest["splits"]),
        held_out=plan["held_out"],
        validated=plan["validated"],
        overlap=plan["overlap_words"],
        near=plan["near_duplicate"],
        refused=_refused(manifest["refused"]),
    )


def _table(splits: Mapping[str, Any]) -> str:
    rows = [
        f"| kind | {' | '.join(SPLITS)} | tokens of a training item (median, 95%, most) |",
        "|---|---:|---:|---:|---|",
    ]
    for kind in KINDS:
        counts = [splits[split]["kinds"].get(kind, {}).get("items", 0) for split in SPLITS]
        tokens = splits["train"]["kinds"].get(kind, {}).get("tokens")
        said = f"{tokens['p50']}, {tokens['p95']}, {tokens['p100']}" if tokens else ""
        rows.append(f"| {kind} | {' | '.join(f'{n:,}' for n in counts)} | {said} |")
    totals = " | ".join(f"{splits[split]['items']:,}" for split in SPLITS)
    return "\n".join([*rows, f"| all | {totals} | {splits['train']['tokens']:,} in all |"])


def _refused(refused: Mapping[str, Mapping[str, int]]) -> str:
    rows = ["| kind | reason | candidates |", "|---|---|---:|"]
    rows += [f"| {kind} | {reason} | {n:,} |" for kind, reasons in refused.items() for reason, n in reasons.items()]
    return "\n".join(rows)

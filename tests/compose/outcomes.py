"""The table of docs/reliability.md: what is claimed, what was done to it, what was seen."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from capstan.common.provenance import provenance

PAGE = Path(os.environ["CAPSTAN_NATIVE_ROOT"]) / "docs/reliability.md"
RESULT = Path(os.environ["CAPSTAN_NATIVE_ROOT"]) / "docs/results/reliability.json"


@dataclass
class Outcomes:
    """Rows as the tests find them."""

    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, claim: str, fault: str, observed: str) -> None:
        """One row; call it when everything has been asserted."""
        self.rows.append({"claim": claim, "fault": fault, "observed": observed})

    def table(self) -> str:
        """The rows in Markdown."""
        lines = [f"| {row['claim']} | {row['fault']} | {row['observed']} |" for row in self.rows]
        return "\n".join(["| Claim | Fault | Observed |", "|---|---|---|", *lines])

    def publish(self) -> None:
        """Write the page's table and its result file, if the command was asked to (`make test-compose PUBLISH=1`)."""
        if not os.environ.get("PUBLISH") or not self.rows:
            return
        result = {**provenance("make test-compose PUBLISH=1"), "outcomes": self.rows}
        head, mark, rest = PAGE.read_text().partition("<!-- table:outcomes -->\n")
        tail = rest[rest.index("<!-- /table -->") :]
        PAGE.write_text(f"{head}{mark}{self.table()}\n{tail}")
        RESULT.write_text(json.dumps(result, indent=2) + "\n")

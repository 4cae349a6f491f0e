"""Writes the dashboards' JSON: `python grafana/build.py`; with `--check` it only says which files are stale.

The sources are boards/*.py, a panel a line or two; the goals come from prometheus/rules/recording.yaml.
"""

import json
import sys
from pathlib import Path

from boards import gateway, overview, rag, training, vllm
from goals import read_goals

HERE = Path(__file__).resolve().parent
BOARDS = {module.__name__.removeprefix("boards."): module for module in (overview, gateway, vllm, rag, training)}


def main() -> int:
    """Write or check every dashboard; the exit code says whether one was stale."""
    check = "--check" in sys.argv[1:]
    goals = read_goals(HERE.parent / "prometheus/rules/recording.yaml")
    stale = []
    for name, module in BOARDS.items():
        path = HERE / "dashboards" / f"{name}.json"
        text = json.dumps(module.board(goals).json(), indent=1, ensure_ascii=False) + "\n"
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path.name)
        if not check:
            path.write_text(text)
    if check and stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run 'python grafana/build.py'\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())

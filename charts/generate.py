"""`make chart`: the parts of the chart that have their home elsewhere.

Copies rules and dashboards of the repository into the chart, since Helm packs nothing from outside of it, and makes the
table of values in README.md from values.yaml. Tests hold both to their sources.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts/capstan"
COPIES = {
    "rules": (ROOT / "prometheus/rules", "*.yaml"),
    "dashboards": (ROOT / "grafana/dashboards", "*.json"),
}
"""Directory under `files` to the home of what is in it."""
_BEGIN, _END = "<!-- values: made by 'make chart' from values.yaml -->", "<!-- end of values -->"
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):(?P<value>.*)$")


def copies() -> dict[Path, bytes]:
    """What `files` has to hold, by path."""
    return {
        CHART / "files" / name / original.name: original.read_bytes()
        for name, (home, pattern) in COPIES.items()
        for original in sorted(home.glob(pattern))
    }


def stale_copies() -> set[Path]:
    """Copies of what is gone."""
    present = {path for name, (_, pattern) in COPIES.items() for path in (CHART / "files" / name).glob(pattern)}
    return present - set(copies())


def documented_values() -> Iterator[tuple[str, str, object]]:
    """(path, description, default) of each value in values.yaml that has a `# --` comment, in the file's order."""
    text = (CHART / "values.yaml").read_text()
    defaults, stack, comment = yaml.safe_load(text), list[tuple[int, str]](), ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = stripped.removeprefix("# -- ")
        elif stripped.startswith("#") and comment:
            comment += " " + stripped.removeprefix("#").strip()
        elif match := _KEY.match(line):
            indent = len(match["indent"])
            stack = [(depth, key) for depth, key in stack if depth < indent] + [(indent, match["key"])]
            if comment:
                path = [key for _, key in stack]
                yield ".".join(path), comment, _at(defaults, path)
            comment = ""


def _at(data: object, path: list[str]) -> object:
    for key in path:
        assert isinstance(data, dict)
        data = data[key]
    return data


def values_table() -> str:
    """The table of values, Markdown."""
    rows = [f"| `{path}` | {_short(default)} | {text} |" for path, text, default in documented_values()]
    return "\n".join(["| Value | Default | |", "|---|---|---|", *rows])


def _short(default: object) -> str:
    if default in ("", None):
        return ""
    text = yaml.safe_dump(default, default_flow_style=True, width=1000, sort_keys=False).removesuffix("...\n").strip()
    return f"`{text}`" if len(text) <= 60 else "see values.yaml"


def readme() -> str:
    """README.md with the table as it should be."""
    text = (CHART / "README.md").read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{values_table()}\n{_END}{after}"


def main() -> None:
    """Write what differs, remove what is gone, and say so."""
    for path, content in {**copies(), CHART / "README.md": readme().encode()}.items():
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            print(f"wrote {path.relative_to(ROOT)}")
    for path in sorted(stale_copies()):
        path.unlink()
        print(f"removed {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

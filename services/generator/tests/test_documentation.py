"""What the README says is what there is."""

import re
from pathlib import Path

from capstan.generator.options import AnswerOptions
from capstan.generator.prompt import PROMPTS
from capstan.generator.settings import GeneratorSettings

HOME = Path(__file__).parents[1]
README = (HOME / "README.md").read_text()


def test_the_readme_has_every_metric_and_no_other() -> None:
    text = "".join(path.read_text() for path in (HOME / "src").rglob("*.py"))
    names = set(re.findall(r'"(capstan_generator_[a-z_]+)"', text))
    assert len(names) > 5
    assert set(re.findall(r"`(capstan_generator_[a-z_]+)", README)) == names


def test_every_option_and_prompt_is_in_the_readme() -> None:
    assert [name for name in [*AnswerOptions.model_fields, *PROMPTS] if f"`{name}`" not in README] == []


def test_defaults_in_the_readme_are_the_settings() -> None:
    for name, field in GeneratorSettings.model_fields.items():
        row = re.search(rf"^\| `CAPSTAN_GENERATOR_{name.upper()}` \| `?([^`|]+?)`? \|", README, re.MULTILINE)
        if row and isinstance(field.default, int | float):
            assert float(row.group(1)) == field.default, name

"""Every code that is raised stands in the catalogue, and every code of the catalogue is raised."""

import re
import string
from pathlib import Path

from tovuk_kit.errors import catalogue

_CODE = re.compile(r'^\s+code(?:: ClassVar\[str\])? = "([a-z0-9_]+)"', re.MULTILINE)
_RAISED_BY_NAME = re.compile(r'"([a-z0-9]+(?:_[a-z0-9]+)+)"')


def _sources(root: Path) -> list[Path]:
    return [
        path
        for package in ("kit", "launcher", *(f"services/{name.name}" for name in (root / "services").iterdir()))
        for path in (root / package).glob("src/*/**/*.py")
    ]


def test_every_code_that_is_raised_stands_in_the_catalogue(root: Path) -> None:
    raised = {code for path in _sources(root) for code in _CODE.findall(path.read_text())}
    assert raised - set(catalogue()) == set()


def test_every_code_of_the_catalogue_is_raised(root: Path) -> None:
    named = {code for path in _sources(root) for code in _RAISED_BY_NAME.findall(path.read_text())}
    single_words = {code for code in catalogue() if "_" not in code}
    assert set(catalogue()) - named - single_words == set()


def test_instructions_are_constant_text_and_whole_sentences() -> None:
    for entry in catalogue().values():
        assert "{" not in re.sub(r"/\{[a-z_]+\}", "", entry.agent_instruction), entry.code
        assert entry.agent_instruction.endswith((".", "?")) and entry.message.endswith("."), entry.code
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", entry.code), entry.code
        assert all(field.isidentifier() for _, field, _, _ in string.Formatter().parse(entry.message) if field), (
            entry.code
        )

"""Which sentence of the seed documents is proved by which test: `make coverage`.

`scope.tsv` lists every sentence's id: `now` must be proved, `later: <what>` belongs to a part that is not built yet,
`advice` tells a reader what to choose and `heading` states nothing. Exits with 1 when a test names an unknown id, or
when a `now` sentence has no test.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_SCOPE = Path(__file__).with_name("scope.tsv")
_SENTENCES = _ROOT / "docs" / "sentences.tsv"
_TEXT_CHARACTERS = 90


class Collector:
    """A pytest plugin that notes the `proves` marks of every collected test."""

    def __init__(self) -> None:
        self.tests: dict[str, list[str]] = defaultdict(list)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for mark in item.iter_markers("proves"):
                for sentence in mark.args:
                    name = item.nodeid.split("[", 1)[0]
                    if name not in self.tests[sentence]:
                        self.tests[sentence].append(name)


def scope() -> dict[str, str]:
    """Every sentence's id with its scope."""
    return dict(line.split("\t") for line in _SCOPE.read_text().splitlines())


def texts() -> dict[str, str]:
    """Every sentence's id with its text."""
    rows = (line.split("\t", 2) for line in _SENTENCES.read_text().splitlines())
    return {row[0]: row[2] for row in rows}


def report(scopes: Mapping[str, str], proofs: Mapping[str, list[str]], text: Mapping[str, str]) -> tuple[str, int]:
    """The report for people, and the exit status."""
    lines = []
    for sentence in scopes:
        if proofs.get(sentence):
            lines.append(f"{sentence}  {_short(text, sentence)}")
            lines += [f"         {test}" for test in proofs[sentence]]
    must = [sentence for sentence, where in scopes.items() if where == "now"]
    unproved = [sentence for sentence in must if not proofs.get(sentence)]
    unknown = sorted(set(proofs) - set(scopes))
    waiting = sum(where.startswith("later") for where in scopes.values())
    lines += [f"UNPROVED {sentence}  {_short(text, sentence)}" for sentence in unproved]
    lines += [f"UNKNOWN  {sentence}  {', '.join(proofs[sentence])}" for sentence in unknown]
    lines.append(
        f"{len(must) - len(unproved)} of {len(must)} sentences proved, {len(unproved)} unproved, "
        f"{waiting} belong to later parts, {len(unknown)} unknown ids"
    )
    return "\n".join(lines), 1 if unproved or unknown else 0


def _short(text: Mapping[str, str], sentence: str) -> str:
    return text.get(sentence, "")[:_TEXT_CHARACTERS]


def main() -> int:
    """Collects all tests without running them, prints the report, returns the exit status."""
    collector = Collector()
    quietly = ["-p", "no:terminal", "-o", "addopts=--import-mode=importlib"]
    status = pytest.main(["--collect-only", *quietly, "--rootdir", str(_ROOT)], plugins=[collector])
    if status != pytest.ExitCode.OK:
        print(f"collecting the tests failed: {status!r}; run pytest --collect-only")  # noqa: T201
        return int(status)
    text, failed = report(scope(), collector.tests, texts())
    print(text)  # noqa: T201 - this is what the command is for
    return failed


if __name__ == "__main__":
    sys.exit(main())

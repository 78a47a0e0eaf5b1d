"""Documents link to what exists, and each service's README opens with the path of a request."""

import re
from pathlib import Path

import pytest

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_ROOT = Path(__file__).resolve().parents[2]
_SERVICES = sorted(path.parent.name for path in (_ROOT / "services").glob("*/pyproject.toml"))
#: The longest path a request may take: six files from the gateway's chain to the store, and the caller's before them.
_REQUEST_PATH_FILES_MAX = 7


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_every_link_of_every_document_leads_somewhere(files: tuple[Path, ...], root: Path) -> None:
    broken = []
    for path in files:
        if path.suffix != ".md":
            continue
        for target in _LINK.findall(_FENCED.sub("", path.read_text())):
            place, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", place):
                continue
            document = (path.parent / place).resolve() if place else path
            headings = (
                {_slug(line.lstrip("#")) for line in document.read_text().splitlines() if line.startswith("#")}
                if anchor and document.is_file()
                else set()
            )
            if not document.exists() or (anchor and anchor not in headings):
                broken.append(f"{path.relative_to(root)}: {target}")
    assert broken == []


@pytest.mark.parametrize("service", _SERVICES)
def test_a_services_readme_opens_with_the_path_of_a_request(service: str) -> None:
    readme = _ROOT / "services" / service / "README.md"
    text = readme.read_text()
    assert "## A request" in text, "the README has no section `A request`"
    section = text.split("## A request", 1)[1].split("\n## ", 1)[0]
    assert text.index("## A request") == text.index("\n## ") + 1, "`A request` is the README's first section"
    sources = {link for link in _LINK.findall(section) if link.endswith((".py", ".proto"))}
    assert 3 <= len(sources) <= _REQUEST_PATH_FILES_MAX, sources
    assert all((readme.parent / link).resolve().is_file() for link in sources)


def test_decision_records_are_numbered_without_gaps_and_dated(root: Path) -> None:
    records = sorted((root / "docs/adr").glob("*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text()
        assert re.match(r"# \d{4}\. .+\n\nDate: \d{4}-\d\d-\d\d\. Status: \w+", text), path.name
        assert all(f"\n## {part}\n" in text for part in ("Context", "Decision", "Consequences")), path.name

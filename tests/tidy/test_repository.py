"""Rules about files as such."""

import re
from pathlib import Path

#: Lock files of tools that record where they downloaded from.
_FOREIGN_LOCKS = {"uv.lock", "poetry.lock", "Pipfile.lock", "package-lock.json", "yarn.lock", "pnpm-lock.yaml"}

_HOST = re.compile(r"(?:https?|wss?|git|ftp|registry\+https)://([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)")
_ADDRESS_SETTING = re.compile(r'"resolved": *"http|^--(?:extra-)?index-url|registry = "', re.MULTILINE)
#: Names that RFC 2606 and RFC 6761 reserve, and addresses of documentation and of this machine.
_NOBODYS_HOST = re.compile(
    r"(?:.*\.)?(?:example(?:\.(?:com|org|net))?|test|invalid|localhost)|127\.0\.0\.\d+|0\.0\.0\.0|192\.0\.2\.\d+|10\..*"
)

_HIDDEN_WORK = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def test_no_file_names_a_network_host(files: tuple[Path, ...], root: Path) -> None:
    named = {
        f"{path.relative_to(root)}: {host}"
        for path in files
        if path != root / "docs/sentences.tsv"  # quotes the seed documents
        for host in _HOST.findall(_text(path))
        if not _NOBODYS_HOST.fullmatch(host)
    }
    assert named == set()


def test_no_file_records_a_download_address(files: tuple[Path, ...], root: Path) -> None:
    this = Path(__file__).resolve()
    found = [str(path.relative_to(root)) for path in files if path != this and _ADDRESS_SETTING.search(_text(path))]
    assert found == []


def test_no_lock_file_of_another_tool_is_kept(files: tuple[Path, ...], root: Path) -> None:
    assert [str(path.relative_to(root)) for path in files if path.name in _FOREIGN_LOCKS] == []


def test_every_locked_package_has_a_hash(root: Path) -> None:
    requirements = re.split(r"\n(?=[a-z0-9])", (root / "requirements.lock").read_text())
    assert [block for block in requirements if "==" in block.split("\n")[0] and "--hash=sha256:" not in block] == []


def test_no_work_is_hidden_in_comments(files: tuple[Path, ...], root: Path) -> None:
    this = Path(__file__).resolve()
    found = [
        f"{path.relative_to(root)}:{number}"
        for path in files
        if path != this and path.suffix in {".py", ".sh", ".proto", ".sql", ".lua", ".toml", ".yml", ".yaml"}
        for number, line in enumerate(_text(path).splitlines(), 1)
        if _HIDDEN_WORK.search(line)
    ]
    assert found == []


def test_every_python_file_says_what_it_is_for(files: tuple[Path, ...], root: Path) -> None:
    generated = re.compile(r"_pb2(_grpc)?\.py$")
    silent = [
        str(path.relative_to(root))
        for path in files
        if path.suffix == ".py"
        and "src" in path.parts
        and not generated.search(path.name)
        and (text := _text(path))
        and not text.startswith('"""')
    ]
    assert silent == []


def test_the_changelog_has_a_place_for_what_is_not_released(root: Path) -> None:
    assert "\n## Unreleased\n" in (root / "CHANGELOG.md").read_text()


def test_every_service_and_shared_package_has_an_owner(root: Path, services: tuple[Path, ...]) -> None:
    owned = [line.split()[0] for line in (root / "CODEOWNERS").read_text().splitlines() if line.startswith("/")]
    for service in services:
        assert f"/services/{service.name}/" in owned
        assert f"/protos/tovuk/{service.name}/" in owned or not (root / "protos/tovuk" / service.name).exists()

"""Rules about code that no linter knows."""

import ast
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = sorted(path.parent for path in (*_ROOT.glob("*/pyproject.toml"), *_ROOT.glob("services/*/pyproject.toml")))

#: What limits count; one of these words stands in the name of each.
_UNITS = {
    *("BYTES", "CHARACTERS", "DIGITS", "PERCENT", "MICROS", "CENTS"),
    *("US", "MS", "SECONDS", "HOURS", "DAYS", "MINUTE"),
    *("KEYS", "ENTRIES", "WRITES", "READS", "RESOURCES", "SERVICES", "TOKENS", "CALLS", "HEADERS", "PAGE", "DEPTH"),
    *("SHARES", "REPORTS", "LEASES", "PARTITIONS", "ATTEMPTS", "OPERATIONS"),
}


def _constants(path: Path) -> list[str]:
    """Names of module constants that are numbers."""
    names = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            target, value = node.target.id, node.value
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            target, value = node.targets[0].id, node.value
        else:
            continue
        if all(isinstance(part, ast.Constant | ast.BinOp | ast.operator) for part in ast.walk(value)) and not any(
            isinstance(part, ast.Constant) and isinstance(part.value, str | bytes | bool) for part in ast.walk(value)
        ):
            names.append(target)
    return names


@pytest.mark.parametrize("path", sorted(_ROOT.glob("services/*/src/*/limits.py")), ids=lambda path: path.parent.name)
def test_every_limit_says_its_unit(path: Path) -> None:
    unitless = [name for name in _constants(path) if name.isupper() and not _UNITS & set(name.split("_"))]
    assert unitless == []


@pytest.mark.parametrize("package", _PACKAGES, ids=lambda package: package.name)
def test_every_test_file_mirrors_a_source_file_or_says_what_it_joins(package: Path) -> None:
    sources = {path.relative_to(module) for module in package.glob("src/*") for path in module.rglob("*")}
    strays = []
    for test in (package / "tests").rglob("test_*.py"):
        place = test.relative_to(package / "tests")
        name = place.name.removeprefix("test_").removesuffix(".py")
        mirrors = any(place.parent / source in sources for source in (f"{name}.py", name))
        if not mirrors and not test.read_text().startswith('"""'):
            strays.append(str(place))
    assert strays == []


def test_no_test_folder_is_a_package() -> None:
    assert [
        str(path) for path in _ROOT.glob("**/tests/**/__init__.py") if not {".venv", "support"} & set(path.parts)
    ] == []


def test_every_typed_package_says_so() -> None:
    modules = [module for package in _PACKAGES if package.name != "protos" for module in package.glob("src/tovuk_*")]
    assert [module.name for module in modules if module.is_dir() and not (module / "py.typed").exists()] == []

"""Each setting of each service is named in its README, in the compose file and in its Kubernetes manifest."""

import importlib
import re
from pathlib import Path

import pytest

from tovuk_kit.settings import ServiceSettings

_ROOT = Path(__file__).resolve().parents[2]
_SERVICES = sorted(path.parent.name for path in (_ROOT / "services").glob("*/pyproject.toml"))


def _settings(service: str) -> type[ServiceSettings]:
    module = importlib.import_module(f"tovuk_{service}.settings")
    found: type[ServiceSettings] = module.Settings
    return found


def _variables(service: str) -> set[str]:
    settings = _settings(service)
    prefix = settings.model_config.get("env_prefix", "")
    return {
        field.validation_alias if isinstance(field.validation_alias, str) else f"{prefix}{name}".upper()
        for name, field in settings.model_fields.items()
    }


def _compose_block(service: str) -> str:
    """The service's own block of the compose file, with the shared blocks it merges."""
    text = (_ROOT / "docker-compose.yml").read_text()
    block = re.search(rf"^  {service}:.*\n((?:    .*\n|\n)*)", text, re.MULTILINE)
    assert block, f"docker-compose.yml has no service {service}"
    shared = "".join(re.findall(r"^x-[\s\S]*?(?=^\S|\Z)", text.split("\nservices:\n", 1)[0] + "\n", re.MULTILINE))
    return shared + block.group(1)


@pytest.mark.parametrize("service", _SERVICES)
@pytest.mark.parametrize("place", ["README", "compose", "kubernetes"])
def test_every_setting_is_named(service: str, place: str) -> None:
    text = {
        "README": (_ROOT / "services" / service / "README.md").read_text,
        "compose": lambda: _compose_block(service),
        "kubernetes": lambda: (
            (_ROOT / "deploy/kubernetes" / f"{service}.yaml").read_text()
            + (_ROOT / "deploy/kubernetes/shared.yaml").read_text()
        ),
    }[place]()
    named = set(re.findall(r"\bTOVUK_[A-Z0-9_]+", text))
    assert _variables(service) - named == set()


@pytest.mark.parametrize("service", _SERVICES)
def test_no_document_names_a_setting_that_is_gone(service: str) -> None:
    prefix = f"TOVUK_{service.upper()}_"
    shared = {f"{prefix}TARGET", f"{prefix}TARGETS"}  # addresses that others are told
    for path in (
        _ROOT / "services" / service / "README.md",
        _ROOT / "docker-compose.yml",
        _ROOT / "deploy/kubernetes" / f"{service}.yaml",
        _ROOT / "README.md",
    ):
        named = {
            name for name in re.findall(r"\bTOVUK_[A-Z0-9_]*[A-Z0-9]", path.read_text()) if name.startswith(prefix)
        }
        images = {f"{prefix}IMAGE", f"{prefix}REPLICAS"}
        assert named - _variables(service) - shared - images == set(), path


@pytest.mark.parametrize("service", _SERVICES)
def test_every_setting_has_a_line_of_meaning_and_a_prefix(service: str) -> None:
    source = (_ROOT / "services" / service / "src" / f"tovuk_{service}" / "settings.py").read_text()
    settings = _settings(service)
    assert settings.model_config.get("env_prefix") == f"TOVUK_{service.upper()}_"
    own = set(settings.model_fields) - set(ServiceSettings.model_fields)
    silent = [name for name in own if not re.search(rf"#: .+\n(?:    #: .+\n)*    {name}\b", source)]
    assert silent == []

from pathlib import Path

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from tovuk_kit.settings import Addresses, ServiceSettings, load


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TOVUK_TEST_")

    store: str = "sqlite:///data"
    workers: int = Field(default=1, ge=1)
    password: SecretStr = SecretStr("")
    sizes: tuple[int, ...] = ()
    targets: Addresses = Field(default=("127.0.0.1:1",), validation_alias="TOVUK_OTHER_TARGETS")


KEY = "a key of sixteen characters"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TOVUK_INTERNAL_KEY", KEY)
    monkeypatch.setenv("TOVUK_TEST_LISTEN", "unix:/run/test.sock")
    return monkeypatch


def problems(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    with pytest.raises(SystemExit) as caught:
        load(Settings)
    assert caught.value.code == 2
    return dict(line.split(": ", 1) for line in capsys.readouterr().err.splitlines())


def test_shared_settings_have_no_service_in_their_names(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TOVUK_NATS_URL", "nats://127.0.0.1:4222")
    environment.setenv("TOVUK_TEST_OPS_LISTEN", "127.0.0.1:9100")
    environment.setenv("TOVUK_OTHER_TARGETS", "unix:/a, 127.0.0.1:2,")
    settings = load(Settings)
    assert settings.internal_key.get_secret_value() == KEY
    assert settings.nats_url == "nats://127.0.0.1:4222"
    assert settings.public_url == "http://127.0.0.1:8080"
    assert settings.otel_endpoint is None
    assert settings.listen == "unix:/run/test.sock"
    assert settings.ops_listen == "127.0.0.1:9100"
    assert settings.targets == ("unix:/a", "127.0.0.1:2")


def test_empty_variable_is_an_absent_one(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TOVUK_OTEL_ENDPOINT", "")
    environment.setenv("TOVUK_TEST_WORKERS", "")
    assert (load(Settings).otel_endpoint, load(Settings).workers) == (None, 1)


def test_every_problem_is_told_at_once_under_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOVUK_INTERNAL_KEY", "too short")
    monkeypatch.setenv("TOVUK_PUBLIC_URL", "ftp://x")
    monkeypatch.setenv("TOVUK_LOG_LEVEL", "LOUD")
    monkeypatch.setenv("TOVUK_TEST_WORKERS", "many")
    monkeypatch.setenv("TOVUK_TEST_SIZES", "not json")
    monkeypatch.setenv("TOVUK_OTHER_TARGETS", "nonsense")
    assert problems(capsys).keys() == {
        "TOVUK_INTERNAL_KEY",
        "TOVUK_PUBLIC_URL",
        "TOVUK_LOG_LEVEL",
        "TOVUK_TEST_WORKERS",
        "TOVUK_TEST_LISTEN",
        "TOVUK_TEST_SIZES",
        "TOVUK_OTHER_TARGETS",
    }


def test_problem_never_shows_a_value(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.setenv("TOVUK_INTERNAL_KEY", "hunter2")
    environment.setenv("TOVUK_TEST_WORKERS", "hunter2")
    environment.setenv("TOVUK_TEST_LISTEN", "hunter2")
    with pytest.raises(SystemExit):
        load(Settings)
    assert "hunter2" not in capsys.readouterr().err


@pytest.mark.parametrize("address", ["unix:relative", "unix:/", "127.0.0.1", ":80", "host:port", "http://x:1", ""])
def test_address_is_a_socket_path_or_host_and_port(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    environment.setenv("TOVUK_TEST_LISTEN", address)
    assert problems(capsys).keys() == {"TOVUK_TEST_LISTEN"}


@pytest.mark.parametrize("address", ["unix:/run/a.sock", "127.0.0.1:0", "kv:7000", "[::1]:7000"])
def test_address_that_is_one_is_taken(environment: pytest.MonkeyPatch, address: str) -> None:
    environment.setenv("TOVUK_TEST_LISTEN", address)
    assert load(Settings).listen == address


def test_description_stars_secrets_and_passwords_within_urls(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TOVUK_TEST_PASSWORD", "hunter2")
    environment.setenv("TOVUK_TEST_STORE", "postgresql://user:hunter3@db/tovuk")
    environment.setenv("TOVUK_NATS_URL", "nats://:hunter4@nats:4222")
    text = load(Settings).describe()
    assert "store=postgresql://user:***@db/tovuk" in text
    assert "nats_url=nats://:***@nats:4222" in text
    assert "listen=unix:/run/test.sock" in text
    assert "\n" not in text
    for secret in (KEY, "hunter2", "hunter3", "hunter4"):
        assert secret not in text
        assert secret not in repr(load(Settings))


def test_settings_do_not_change(environment: pytest.MonkeyPatch) -> None:
    settings = load(Settings)
    with pytest.raises(ValueError, match="frozen"):
        settings.workers = 2


def test_tests_may_give_values_by_field_name(tmp_path: Path) -> None:
    settings = Settings(internal_key=SecretStr(KEY), listen=f"unix:{tmp_path}/s", nats_url="nats://x:1")
    assert settings.nats_url == "nats://x:1"

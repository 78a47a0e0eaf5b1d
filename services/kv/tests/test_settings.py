"""The settings are whole or refused, all problems at once."""

from pathlib import Path

import pytest

from tovuk_kit.settings import load
from tovuk_kv.settings import RedisEngine, Settings, SqliteEngine

COMMON = {
    "TOVUK_INTERNAL_KEY": "internal-key-of-the-tests",
    "TOVUK_KV_LISTEN": "unix:/tmp/kv.sock",
    "TOVUK_CONTROL_TARGET": "127.0.0.1:1",
    "TOVUK_METERING_TARGET": "127.0.0.1:2",
}


@pytest.mark.parametrize(
    ("said", "engine"),
    [
        ({"TOVUK_KV_ENGINE": "sqlite", "TOVUK_KV_DATA_DIR": "/data"}, SqliteEngine(Path("/data"))),
        (
            {"TOVUK_KV_ENGINE": "redis", "TOVUK_KV_REDIS_URL": "redis://:secret@redis:6379/1"},
            RedisEngine("redis://:secret@redis:6379/1"),
        ),
    ],
)
def test_an_engine_comes_with_what_it_needs(
    said: dict[str, str], engine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (COMMON | said).items():
        monkeypatch.setenv(name, value)
    settings = load(Settings)
    assert settings.store == engine
    assert "secret" not in settings.describe()


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"TOVUK_KV_ENGINE": "sqlite"}, "TOVUK_KV_DATA_DIR"),
        ({"TOVUK_KV_ENGINE": "redis"}, "TOVUK_KV_REDIS_URL"),
        ({"TOVUK_KV_ENGINE": "memory", "TOVUK_KV_REDIS_URL": "http://x"}, "TOVUK_KV_ENGINE"),
        ({"TOVUK_KV_ENGINE": "memory", "TOVUK_KV_REDIS_URL": "http://x"}, "TOVUK_KV_REDIS_URL"),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    said: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (COMMON | said).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        load(Settings)
    assert named in capsys.readouterr().err

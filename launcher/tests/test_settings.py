import pytest
from pydantic import ValidationError

from tovuk_launcher.settings import Settings


def test_an_own_nats_without_its_monitor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOVUK_NATS_URL", "nats://user:hidden-password@nats:4222")
    with pytest.raises(ValidationError, match="TOVUK_NATS_MONITOR_URL") as refused:
        Settings()
    assert all("hidden-password" not in problem["msg"] for problem in refused.value.errors(include_input=False))
    monkeypatch.setenv("TOVUK_NATS_MONITOR_URL", "http://nats:8222")
    assert Settings().nats_monitor_url == "http://nats:8222"


@pytest.mark.parametrize(("cores", "gateways"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (64, 4)])
def test_gateways_follow_the_cores(monkeypatch: pytest.MonkeyPatch, cores: int, gateways: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert Settings().gateways == gateways


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_an_impossible_port_is_refused(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("TOVUK_PORT", port)
    with pytest.raises(ValidationError, match="port"):
        Settings()

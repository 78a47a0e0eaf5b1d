import pytest

from tovuk_control.settings import Settings
from tovuk_kit.settings import load
from tovuk_kit.tokens import new_token

GOOD = {
    "TOVUK_INTERNAL_KEY": "an internal key of tests",
    "TOVUK_CONTROL_LISTEN": "unix:/run/control.sock",
    "TOVUK_CONTROL_DATABASE_URL": "postgresql://control:secret-of-tests@db/control",
    "TOVUK_METERING_TARGET": "unix:/run/metering.sock",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOVUK_BOOTSTRAP_TOKEN", "TOVUK_CONTROL_BOOTSTRAP_FILE", "TOVUK_CONTROL_OPS_LISTEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_what_must_be_said_is_enough() -> None:
    settings = load(Settings)
    assert settings.metering_target == "unix:/run/metering.sock"
    assert settings.bootstrap_token.get_secret_value() == ""
    assert settings.bootstrap_file is None


def test_no_secret_is_printed() -> None:
    text = load(Settings).describe()
    assert "secret-of-tests" not in text
    assert "internal key of tests" not in text


@pytest.mark.parametrize(
    "token", ["correct-horse-battery", new_token("user"), "x" * 16], ids=["words", "as made", "short"]
)
def test_a_chosen_token_that_can_be_sent_is_taken(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("TOVUK_BOOTSTRAP_TOKEN", token)
    assert load(Settings).bootstrap_token.get_secret_value() == token


@pytest.mark.parametrize("token", ["x" * 15, "with a space inside", "tovuk_user_of_my_own_choice", "x" * 257])
def test_a_chosen_token_the_gateway_would_refuse_is_refused_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], token: str
) -> None:
    monkeypatch.setenv("TOVUK_BOOTSTRAP_TOKEN", token)
    with pytest.raises(SystemExit) as ended:
        load(Settings)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "TOVUK_BOOTSTRAP_TOKEN" in said
    assert token not in said


def test_every_problem_is_said_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in GOOD:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TOVUK_CONTROL_DATABASE_URL", "mysql://db")
    with pytest.raises(SystemExit):
        load(Settings)
    said = capsys.readouterr().err
    assert all(name in said for name in GOOD)

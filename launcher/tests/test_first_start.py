from pathlib import Path

from tovuk_launcher.first_start import FirstStart


def test_a_token_is_chosen_until_a_start_has_succeeded(tmp_path: Path) -> None:
    first = FirstStart(tmp_path, "")
    second = FirstStart(tmp_path, "")
    assert first.token.startswith("tovuk_user_")
    assert second.is_first and second.token != first.token
    second.done()
    third = FirstStart(tmp_path, "")
    assert not third.is_first and third.token == ""


def test_a_token_of_the_operators_is_told_at_every_start(tmp_path: Path) -> None:
    FirstStart(tmp_path, "chosen-by-the-operator").done()
    assert FirstStart(tmp_path, "chosen-by-the-operator").token == "chosen-by-the-operator"

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tovuk_kit import tokens

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("scope", tokens.SCOPES)
def test_a_new_token_names_its_scope_and_may_be_genuine(scope: tokens.Scope) -> None:
    token = tokens.new_token(scope)
    assert token.startswith(f"tovuk_{scope}_")
    assert len(token) == len(f"tovuk_{scope}_") + 38
    assert tokens.may_be_genuine(token)


def test_two_new_tokens_differ() -> None:
    assert tokens.new_token("user") != tokens.new_token("user")


@given(data=st.data())
def test_one_changed_character_behind_the_prefix_is_noticed(data: st.DataObject) -> None:
    token = "tovuk_user_" + "a" * 32
    token += tokens._checksum(token)
    position = data.draw(st.integers(len("tovuk_user_"), len(token) - 1))
    other = data.draw(st.sampled_from([c for c in BASE62 if c != token[position]]))
    assert not tokens.may_be_genuine(token[:position] + other + token[position + 1 :])


@pytest.mark.parametrize("cut", [1, 6, 37])
def test_a_truncated_token_is_noticed(cut: int) -> None:
    assert not tokens.may_be_genuine(tokens.new_token("runtime")[:-cut])


def test_a_token_with_something_behind_its_checksum_is_noticed() -> None:
    assert not tokens.may_be_genuine(tokens.new_token("read") + "x")


@pytest.mark.parametrize("chosen", ["correct-horse-bat", "tovuk_owner_0123456789", "x" * 16, "x" * 256])
def test_a_token_without_our_prefix_may_always_be_genuine(chosen: str) -> None:
    assert tokens.may_be_genuine(chosen)


@pytest.mark.parametrize(
    "garbage", ["", "x" * 15, "x" * 257, "with a space inside", "tab\tinside-the-token", "ünïcödé-tökén-hérè"]
)
def test_what_no_header_can_carry_or_is_of_no_allowed_length_is_refused(garbage: str) -> None:
    assert not tokens.may_be_genuine(garbage)


def test_the_digest_is_the_sha256_of_the_token() -> None:
    assert tokens.digest("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_recognition_shows_four_characters_on_either_side_of_our_own_tokens() -> None:
    token = tokens.new_token("user")
    assert tokens.recognition(token) == (token[:15], token[-4:])


def test_recognition_hides_the_beginning_of_a_chosen_token() -> None:
    assert tokens.recognition("correct-horse-battery") == ("", "tery")

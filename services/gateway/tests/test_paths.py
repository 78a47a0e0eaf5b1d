"""Paths are split before they are decoded."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tovuk_gateway.errors import InvalidPath, NoSuchRoute
from tovuk_gateway.paths import SLASH, decode_segment, routing_path


@pytest.mark.proves("RES-107")
def test_an_encoded_slash_stays_inside_its_segment() -> None:
    assert routing_path("GET", b"/v1/a%2Fb/c%2fd") == f"/v1/a{SLASH}b/c{SLASH}d"


@pytest.mark.parametrize(
    "raw",
    [
        b"/v1/./x",
        b"/v1/../x",
        b"/v1/%2e/x",
        b"/v1/%2E%2e/x",
        b"/v1/.%2E/x",
        b"/v1//x",
        b"//v1/x",
        b"/v1/%ff",
        b"/v1/%ed%a0%80",
        b"/v1/%c0%ae",
        b"/v1/%",
        b"/v1/%4",
        b"/v1/%zz",
        b"/v1/%+1",
        b"/..",
        b"*",
    ],
)
def test_a_segment_that_is_empty_or_dots_or_not_utf8_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidPath):
        routing_path("GET", raw)


@pytest.mark.parametrize("raw", [b"/..%2F", b"/%252e%252e", b"/...", b"/.a", b"/a.", b"/%00", b"/a%0A"])
def test_what_only_looks_like_dots_is_a_name(raw: bytes) -> None:
    assert routing_path("GET", raw).count("/") == 1


def test_a_trailing_slash_is_taken_on_the_deletion_of_a_service_alone() -> None:
    assert routing_path("DELETE", b"/v1/services/x/") == "/v1/services/x"
    for method, raw in (
        ("GET", b"/v1/services/x/"),
        ("DELETE", b"/v1/services/x/env/"),
        ("DELETE", b"/v1/services/"),
        ("POST", b"/v1/services/"),
        ("DELETE", b"/v2/services/x/"),
    ):
        with pytest.raises(NoSuchRoute):
            routing_path(method, raw)


@given(st.text(min_size=1).filter(lambda text: text not in {".", ".."}))
def test_what_a_client_encodes_comes_back(text: str) -> None:
    try:
        raw = quote(text, safe="").encode()
    except UnicodeEncodeError:
        return
    assert decode_segment(raw) == text


@given(st.binary(max_size=30))
def test_any_bytes_are_a_path_or_a_refusal(raw: bytes) -> None:
    try:
        routing_path("GET", b"/" + raw)
    except (InvalidPath, NoSuchRoute):
        return

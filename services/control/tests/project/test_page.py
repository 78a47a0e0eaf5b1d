import pytest
from hypothesis import given
from hypothesis import strategies as st

from tovuk_control.errors import InvalidCursor
from tovuk_control.project.page import Cursors


@given(listing=st.text(max_size=10), subject=st.text(max_size=30), position=st.text(max_size=60))
def test_every_instance_with_the_key_reads_a_cursor(listing: str, subject: str, position: str) -> None:
    cursor = Cursors(b"key").write(listing, subject, position)
    assert Cursors(b"key").read(listing, subject, cursor) == position


def test_another_key_list_or_subject_does_not_read_it() -> None:
    cursor = Cursors(b"key").write("activity", "a", "7")
    for other, listing, subject in ((b"other", "activity", "a"), (b"key", "services", "a"), (b"key", "activity", "b")):
        with pytest.raises(InvalidCursor):
            Cursors(other).read(listing, subject, cursor)


@given(cursor=st.text(max_size=600))
def test_what_was_not_written_here_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursors(b"key").read("activity", "a", cursor)

import msgspec
import pytest

from tovuk_sqlite.store import segments
from tovuk_sqlite.store.segments import BaseName, Damaged, SegmentHeader, SegmentName, Slice
from tovuk_sqlite.store.wal import Salts

HEADER = SegmentHeader(
    database_id="sqlite_aa",
    generation=3,
    seq=7,
    fence=0,
    page_bytes=4096,
    salts=Salts(1, 2),
    frames=9,
    checksum=(3, 4),
    slices=(Slice(1_000, 5, (2, 1)), Slice(0, 0, (4,))),
)


def test_a_segment_comes_back_as_it_was_put() -> None:
    images = [bytes([number]) * 4096 for number in range(3)]
    (found,) = segments.decode(segments.encode(HEADER, images))
    assert (found.header, bytes(found.images())) == (HEADER, b"".join(images))


def test_objects_put_together_hold_their_segments_in_order() -> None:
    raws = [segments.encode(msgspec.structs.replace(HEADER, seq=seq), [bytes([seq]) * 4096]) for seq in (7, 8, 9)]
    found = list(segments.decode(b"".join(raws)))
    assert [(one.header.seq, bytes(one.images()[:1])) for one in found] == [(7, b"\7"), (8, b"\10"), (9, b"\11")]


def test_any_byte_that_changes_or_is_missing_is_found() -> None:
    whole = segments.encode(HEADER, [b"page" * 1024])
    for at in range(len(whole)):
        with pytest.raises(Damaged):
            list(segments.decode(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]))
        with pytest.raises(Damaged):
            list(segments.decode(whole[:at]))


def test_names_say_what_lies_in_a_group_in_order() -> None:
    base = BaseName(1_800_000_000_000, 8192, "ab" * 32)
    names = [SegmentName(0, 0, 1, 0, 0), SegmentName(9, 9, 1, 5, 6), SegmentName(10, 12, 2, 7, 8)]
    listed = sorted([segments.base_name(base), *(segments.segment_name(name) for name in reversed(names))])
    found = segments.group(0, listed)
    assert found.bases == (base,)
    assert found.segments == tuple(names)

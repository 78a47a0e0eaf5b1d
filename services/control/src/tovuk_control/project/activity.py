"""The record of what happened to an account, for its owner."""

import json
import re
from typing import Final

from tovuk_control.errors import InvalidRequest
from tovuk_control.limits import ACTIVITY_DETAILS_BYTES_MAX, ACTIVITY_ENTRIES_MAX
from tovuk_control.project.lookup import find_account
from tovuk_control.project.page import Cursors, checked_limit
from tovuk_control.store import activity as table
from tovuk_control.store.activity import Entry
from tovuk_kit.clock import Clock
from tovuk_kit.database import Database, Tx
from tovuk_kit.ids import has_id_shape, new_id

_KIND: Final = re.compile(r"[a-z][a-z_]{0,63}")
_ID: Final = re.compile(r"[!-~]{1,128}")


def record(tx: Tx, account_id: str, kind: str, at_ms: int, /, *, service_id: str = "", **details: str | int) -> None:
    """Write an entry in the transaction of the change it tells of."""
    entry = Entry(new_id("activity"), account_id, kind, service_id, json.dumps(details), at_ms)
    table.append(tx, entry, ACTIVITY_ENTRIES_MAX)


class Activity:
    """Entries of other services, and the listing.

    The listing is in the order of recording: an entry that was delivered late is new. An account keeps its newest
    `ACTIVITY_ENTRIES_MAX` entries.
    """

    def __init__(self, database: Database, clock: Clock, cursors: Cursors) -> None:
        self._database = database
        self._clock = clock
        self._cursors = cursors

    async def record(self, entry: Entry) -> None:
        """Record another service's entry, once for each id. Raises InvalidRequest, AccountNotFound."""
        if _ID.fullmatch(entry.id) is None or _KIND.fullmatch(entry.kind) is None:
            raise InvalidRequest(reason="an activity entry needs an id and a kind")
        if entry.service_id and not has_id_shape(entry.service_id):
            raise InvalidRequest(reason="an activity entry's service has not the shape of an id")
        details = _details(entry.details_json)
        at_ms = entry.at_ms if entry.at_ms > 0 else self._clock.wall_ms()
        checked = Entry(entry.id, entry.account_id, entry.kind, entry.service_id, details, at_ms)

        def work(tx: Tx) -> None:
            tx.lock(f"activity:{entry.id}")
            find_account(tx, entry.account_id)
            if not table.known(tx, entry.id):
                table.append(tx, checked, ACTIVITY_ENTRIES_MAX)

        await self._database.write(work)

    async def page(self, account_id: str, limit: int, cursor: str) -> tuple[list[Entry], str]:
        """Entries, newest first, and the cursor of the next page, empty on the last.

        Raises AccountNotFound, InvalidLimit, InvalidCursor.
        """
        limit = checked_limit(limit)
        before_seq = int(self._cursors.read("activity", account_id, cursor)) if cursor else None

        def work(tx: Tx) -> list[Entry]:
            find_account(tx, account_id)
            return table.page(tx, account_id, before_seq, limit + 1)

        entries = await self._database.read(work)
        more = len(entries) > limit
        entries = entries[:limit]
        return entries, self._cursors.write("activity", account_id, str(entries[-1].seq)) if more else ""


def _details(text: str) -> str:
    """The details as compact JSON."""
    if len(text.encode()) > ACTIVITY_DETAILS_BYTES_MAX:
        raise InvalidRequest(reason="the details of an activity entry are too large")
    try:
        details = json.loads(text or "{}", parse_constant=_refuse_constant)
        # A lone surrogate, which would make the listing unreadable, has no UTF-8.
        json.dumps(details, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(reason="the details of an activity entry are not strict JSON") from error
    if not isinstance(details, dict):
        raise InvalidRequest(reason="the details of an activity entry are not an object")
    return json.dumps(details)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)

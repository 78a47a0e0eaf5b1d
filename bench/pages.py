"""The driver of transfers: `python -m bench.pages <port> <requests> <seconds>` asks for whole results in turn.

A result is read page by page: the request goes again with the cursor that the answer before it gave.
"""

import http.client
import itertools
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.load import read_requests

#: A cursor stands behind the rows, among the last bytes of an answer.
_CURSOR = re.compile(rb'"cursor":"([^"]+)"')
_TAIL_BYTES = 4096


class _Refused(Exception):
    """A status other than 2xx."""


def run(port: int, requests: Sequence[bytes], seconds: float) -> dict[str, int]:
    """What was seen: whole results, and answers that were errors."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    took_us: list[int] = []
    errors, began = 0, time.perf_counter()
    for request in itertools.cycle(requests):
        started = time.perf_counter()
        if started - began >= seconds:
            break
        try:
            _whole(connection, request)
        except (_Refused, OSError, http.client.HTTPException):
            errors += 1
            connection.close()
        else:
            took_us.append(round((time.perf_counter() - started) * 1e6))
    took_us.sort()
    return {
        "results": len(took_us) + errors,
        "errors": errors,
        "duration_us": round((time.perf_counter() - began) * 1e6),
        "p50_us": _at(took_us, 0.5),
        "p99_us": _at(took_us, 0.99),
    }


def _whole(connection: http.client.HTTPConnection, request: bytes) -> None:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, _ = first.split(" ")
    headers = dict(line.split(": ", 1) for line in lines if not line.startswith("Content-Length"))
    content: dict[str, Any] = json.loads(body)
    while True:
        connection.request(method, path, json.dumps(content), headers)
        answer = connection.getresponse()
        received = answer.read()
        if not 200 <= answer.status < 300:
            raise _Refused
        cursor = _CURSOR.search(received, max(0, len(received) - _TAIL_BYTES))
        if cursor is None:
            return
        content["cursor"] = cursor[1].decode()


def _at(ordered: Sequence[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]), read_requests(Path(sys.argv[2])), float(sys.argv[3]))))

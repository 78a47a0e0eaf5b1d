"""A tenant that gives nobody peace: `python -m bench.crowd <port> <path> <headers> <sql> <connections>`."""

import http.client
import json
import sys
import threading
from collections.abc import Mapping

_ANSWER_WITHIN_S = 60.0


def ask_for_ever(port: int, path: str, headers: Mapping[str, str], sql: str) -> None:
    """The statement again and again, one at a time, whatever is answered."""
    body = json.dumps({"sql": sql})
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_WITHIN_S)
        connection.request("POST", path, body, {**headers, "Content-Type": "application/json"})
        print("begun", flush=True)
        connection.getresponse().read()
        connection.close()


if __name__ == "__main__":
    port, path, headers, sql, connections = sys.argv[1:]
    for _ in range(int(connections)):
        threading.Thread(target=ask_for_ever, args=(int(port), path, json.loads(headers), sql)).start()

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from tovuk_launcher import ground
from tovuk_launcher.refusals import Refusal


def test_a_data_directory_is_private_and_held_by_one_launcher(tmp_path: Path) -> None:
    with ground.data_directory(tmp_path / "data") as data:
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        with pytest.raises(Refusal, match=f"in use by another tovuk .process {os.getpid()}"):
            ground.data_directory(data).__enter__()
    with ground.data_directory(data):
        pass


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refusal, match="TOVUK_DATA_DIR"), ground.data_directory(tmp_path / "file" / "data"):
        pass


def test_the_internal_key_is_made_once_and_read_by_nobody_else(tmp_path: Path) -> None:
    key = ground.internal_key(tmp_path)
    assert len(key) == 64
    assert ground.internal_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / "internal.key").stat().st_mode) == 0o600


def test_sockets_lie_in_the_data_directory_where_their_paths_fit() -> None:
    with tempfile.TemporaryDirectory() as short, ground.socket_directory(Path(short)) as sockets:
        assert sockets == Path(short) / "run"
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700


def test_sockets_lie_elsewhere_when_the_data_directory_is_too_deep(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with ground.socket_directory(deep) as sockets:
        assert deep not in sockets.parents
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(sockets / "a-service-of-20c.sock"))
    assert not sockets.exists()


def test_a_port_somebody_listens_on_is_refused_by_number() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Refusal, match=f"port {port} .*TOVUK_PORT"), ground.public_port("127.0.0.1", port):
            pass


def test_a_held_port_takes_no_connection_and_lets_a_gateway_listen() -> None:
    port = ground.free_port()
    with ground.public_port("127.0.0.1", port), socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
        with socket.socket() as gateway, socket.socket() as second:
            for listener in (gateway, second):
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", port))
                listener.listen()
            for _ in range(20):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()

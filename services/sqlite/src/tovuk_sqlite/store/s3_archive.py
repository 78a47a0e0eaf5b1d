"""The archive as objects of a bucket of any server that speaks S3."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, S3Error, ServerError

from tovuk_kit.errors import StorageFull, StoreUnavailable
from tovuk_kit.sqlite_errors import translated
from tovuk_sqlite.store import copies
from tovuk_sqlite.store.archive import ObjectMissing

#: Larger files go up in parts of so many bytes.
_PART_BYTES: Final = 16 * 1024 * 1024
_CONNECT_S, _READ_S = 2.0, 10.0
_CONNECTIONS: Final = 16
_MISSING: Final = frozenset({"NoSuchKey", "ResourceNotFound"})
_FULL: Final = frozenset({"XMinioStorageFull", "InsufficientCapacity", "QuotaExceeded"})


class S3Archive:
    """The Archive under a prefix of one bucket, which is made when it is missing."""

    def __init__(self, client: Minio, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    @classmethod
    def at(cls, url: str) -> Self:
        """What `s3+https://key:secret@host:port/bucket/prefix?region=…` names, percent-encoded where it has to be."""
        parts = urlsplit(url)
        bucket, _, prefix = unquote(parts.path.strip("/")).partition("/")
        region = parse_qs(parts.query).get("region", ["us-east-1"])[0]
        pool = urllib3.PoolManager(
            maxsize=_CONNECTIONS,
            timeout=urllib3.Timeout(connect=_CONNECT_S, read=_READ_S),
            # A server closes connections that were idle. Whatever lasts longer is for the caller to repeat.
            retries=urllib3.Retry(2, backoff_factor=0.1),
        )
        client = Minio(
            parts.netloc.rpartition("@")[2],
            access_key=unquote(parts.username or ""),
            secret_key=unquote(parts.password or ""),
            secure=parts.scheme == "s3+https",
            region=region,
            http_client=pool,
        )
        return cls(client, bucket, prefix)

    def put(self, name: str, content: bytes) -> None:
        self._put(name, io.BytesIO(content), len(content))

    def put_file(self, name: str, path: Path) -> None:
        with _faults(), path.open("rb") as file:
            self._put(name, file, path.stat().st_size)

    def get(self, name: str) -> bytes:
        with _faults():
            response = self._client.get_object(self._bucket, self._prefix + name)
            try:
                content: bytes = response.read()
                return content
            finally:
                response.close()
                response.release_conn()

    def get_file(self, name: str, path: Path) -> None:
        with _faults():
            response = self._client.get_object(self._bucket, self._prefix + name)
            try:
                with path.open("xb") as file:
                    copies.pour(response, file)
            finally:
                response.close()
                response.release_conn()

    def names(self, folder: str) -> list[str]:
        prefix = f"{self._prefix}{folder}/"
        try:
            with _faults():
                found = self._client.list_objects(self._bucket, prefix=prefix)
                return sorted((one.object_name or "")[len(prefix) :].rstrip("/") for one in found)
        except _NoBucket:
            return []

    def remove(self, name: str) -> None:
        with contextlib.suppress(ObjectMissing, _NoBucket), _faults():
            self._client.remove_object(self._bucket, self._prefix + name)

    def remove_folder(self, folder: str) -> None:
        prefix = f"{self._prefix}{folder}/"
        with contextlib.suppress(_NoBucket), _faults():
            found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
            doomed = [DeleteObject(one.object_name or "") for one in found]
            for error in self._client.remove_objects(self._bucket, doomed):
                raise StoreUnavailable(retry_after_ms=1_000) from ValueError(f"{error.name}: {error.code}")

    def _put(self, name: str, content: BinaryIO, size: int) -> None:
        try:
            with _faults():
                self._client.put_object(
                    self._bucket, self._prefix + name, content, size, part_size=_PART_BYTES if size > _PART_BYTES else 0
                )
        except _NoBucket:
            with _faults():
                self._client.make_bucket(self._bucket)
            content.seek(0)
            self._put(name, content, size)


class _NoBucket(StoreUnavailable):
    """The bucket is missing."""


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Tell what the server, or the way to it, fails with."""
    try:
        yield
    except S3Error as error:
        if error.code in _MISSING:
            raise ObjectMissing(error.resource) from error
        if error.code == "NoSuchBucket":
            raise _NoBucket(retry_after_ms=1_000) from error
        raise (StorageFull if error.code in _FULL else StoreUnavailable)(retry_after_ms=1_000) from error
    except (ServerError, InvalidResponseError, urllib3.exceptions.HTTPError) as error:
        raise StoreUnavailable(retry_after_ms=1_000) from error
    except OSError as error:
        raise translated(error) from error

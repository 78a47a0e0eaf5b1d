from tovuk.common.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Target(_message.Message):
    __slots__ = ("account_id", "service_id", "namespace")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    service_id: str
    namespace: str
    def __init__(self, account_id: _Optional[str] = ..., service_id: _Optional[str] = ..., namespace: _Optional[str] = ...) -> None: ...

class Namespace(_message.Message):
    __slots__ = ("id", "name", "service_id", "created_at_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    service_id: str
    created_at_ms: int
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., service_id: _Optional[str] = ..., created_at_ms: _Optional[int] = ...) -> None: ...

class CreateNamespaceRequest(_message.Message):
    __slots__ = ("account_id", "service_id", "name")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    service_id: str
    name: str
    def __init__(self, account_id: _Optional[str] = ..., service_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeleteNamespaceRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class DeleteNamespaceReply(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListNamespacesRequest(_message.Message):
    __slots__ = ("service_id",)
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    service_id: str
    def __init__(self, service_id: _Optional[str] = ...) -> None: ...

class ListNamespacesReply(_message.Message):
    __slots__ = ("namespaces",)
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    namespaces: _containers.RepeatedCompositeFieldContainer[Namespace]
    def __init__(self, namespaces: _Optional[_Iterable[_Union[Namespace, _Mapping]]] = ...) -> None: ...

class Meta(_message.Message):
    __slots__ = ("encoding", "metadata", "expires_at")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    encoding: str
    metadata: bytes
    expires_at: int
    def __init__(self, encoding: _Optional[str] = ..., metadata: _Optional[bytes] = ..., expires_at: _Optional[int] = ...) -> None: ...

class PutHead(_message.Message):
    __slots__ = ("target", "key", "meta", "value_bytes", "if_match", "if_none_match", "ttl_seconds")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    VALUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IF_MATCH_FIELD_NUMBER: _ClassVar[int]
    IF_NONE_MATCH_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    target: Target
    key: bytes
    meta: Meta
    value_bytes: int
    if_match: str
    if_none_match: str
    ttl_seconds: int
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., key: _Optional[bytes] = ..., meta: _Optional[_Union[Meta, _Mapping]] = ..., value_bytes: _Optional[int] = ..., if_match: _Optional[str] = ..., if_none_match: _Optional[str] = ..., ttl_seconds: _Optional[int] = ...) -> None: ...

class PutLargeRequest(_message.Message):
    __slots__ = ("head", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: PutHead
    chunk: bytes
    def __init__(self, head: _Optional[_Union[PutHead, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class PutLargeReply(_message.Message):
    __slots__ = ("version", "expires_at")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    version: int
    expires_at: int
    def __init__(self, version: _Optional[int] = ..., expires_at: _Optional[int] = ...) -> None: ...

class GetLargeRequest(_message.Message):
    __slots__ = ("target", "key", "if_none_match")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    IF_NONE_MATCH_FIELD_NUMBER: _ClassVar[int]
    target: Target
    key: bytes
    if_none_match: str
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., key: _Optional[bytes] = ..., if_none_match: _Optional[str] = ...) -> None: ...

class GetHead(_message.Message):
    __slots__ = ("meta", "version", "value_bytes", "not_modified")
    META_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VALUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    NOT_MODIFIED_FIELD_NUMBER: _ClassVar[int]
    meta: Meta
    version: int
    value_bytes: int
    not_modified: bool
    def __init__(self, meta: _Optional[_Union[Meta, _Mapping]] = ..., version: _Optional[int] = ..., value_bytes: _Optional[int] = ..., not_modified: _Optional[bool] = ...) -> None: ...

class GetLargeReply(_message.Message):
    __slots__ = ("head", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: GetHead
    chunk: bytes
    def __init__(self, head: _Optional[_Union[GetHead, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class BulkPutHead(_message.Message):
    __slots__ = ("target", "entries")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    target: Target
    entries: int
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., entries: _Optional[int] = ...) -> None: ...

class BulkPutRequest(_message.Message):
    __slots__ = ("head", "entries")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    head: BulkPutHead
    entries: bytes
    def __init__(self, head: _Optional[_Union[BulkPutHead, _Mapping]] = ..., entries: _Optional[bytes] = ...) -> None: ...

class BulkReply(_message.Message):
    __slots__ = ("applied", "existed")
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    applied: int
    existed: int
    def __init__(self, applied: _Optional[int] = ..., existed: _Optional[int] = ...) -> None: ...

class BulkGetRequest(_message.Message):
    __slots__ = ("target", "keys")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    target: Target
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., keys: _Optional[_Iterable[bytes]] = ...) -> None: ...

class BulkGetReply(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: bytes
    def __init__(self, entries: _Optional[bytes] = ...) -> None: ...

class BulkDeleteRequest(_message.Message):
    __slots__ = ("target", "keys")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    target: Target
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., keys: _Optional[_Iterable[bytes]] = ...) -> None: ...

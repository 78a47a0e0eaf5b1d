from tovuk.common.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Target(_message.Message):
    __slots__ = ("account_id", "service_id", "database")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    service_id: str
    database: str
    def __init__(self, account_id: _Optional[str] = ..., service_id: _Optional[str] = ..., database: _Optional[str] = ...) -> None: ...

class Database(_message.Message):
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

class RunRequest(_message.Message):
    __slots__ = ("target", "plan", "statements", "batch", "estimate", "cursor")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    target: Target
    plan: str
    statements: bytes
    batch: bool
    estimate: bool
    cursor: str
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., plan: _Optional[str] = ..., statements: _Optional[bytes] = ..., batch: _Optional[bool] = ..., estimate: _Optional[bool] = ..., cursor: _Optional[str] = ...) -> None: ...

class RunReply(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class CreateDatabaseRequest(_message.Message):
    __slots__ = ("account_id", "service_id", "name")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    service_id: str
    name: str
    def __init__(self, account_id: _Optional[str] = ..., service_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeleteDatabaseRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class DeleteDatabaseReply(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListDatabasesRequest(_message.Message):
    __slots__ = ("service_id",)
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    service_id: str
    def __init__(self, service_id: _Optional[str] = ...) -> None: ...

class ListDatabasesReply(_message.Message):
    __slots__ = ("databases",)
    DATABASES_FIELD_NUMBER: _ClassVar[int]
    databases: _containers.RepeatedCompositeFieldContainer[Database]
    def __init__(self, databases: _Optional[_Iterable[_Union[Database, _Mapping]]] = ...) -> None: ...

class CreateBackupRequest(_message.Message):
    __slots__ = ("target", "plan")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    target: Target
    plan: str
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., plan: _Optional[str] = ...) -> None: ...

class Backup(_message.Message):
    __slots__ = ("id", "database_id", "kind", "status", "reason", "created_at_ms", "expires_at_ms", "size_bytes", "sha256")
    ID_FIELD_NUMBER: _ClassVar[int]
    DATABASE_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    id: str
    database_id: str
    kind: str
    status: str
    reason: str
    created_at_ms: int
    expires_at_ms: int
    size_bytes: int
    sha256: str
    def __init__(self, id: _Optional[str] = ..., database_id: _Optional[str] = ..., kind: _Optional[str] = ..., status: _Optional[str] = ..., reason: _Optional[str] = ..., created_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class ListBackupsRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class ListBackupsReply(_message.Message):
    __slots__ = ("backups", "restores", "earliest_ms")
    BACKUPS_FIELD_NUMBER: _ClassVar[int]
    RESTORES_FIELD_NUMBER: _ClassVar[int]
    EARLIEST_MS_FIELD_NUMBER: _ClassVar[int]
    backups: _containers.RepeatedCompositeFieldContainer[Backup]
    restores: _containers.RepeatedCompositeFieldContainer[RestoreState]
    earliest_ms: int
    def __init__(self, backups: _Optional[_Iterable[_Union[Backup, _Mapping]]] = ..., restores: _Optional[_Iterable[_Union[RestoreState, _Mapping]]] = ..., earliest_ms: _Optional[int] = ...) -> None: ...

class RestoreRequest(_message.Message):
    __slots__ = ("target", "plan", "backup_id", "at_ms")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    BACKUP_ID_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    target: Target
    plan: str
    backup_id: str
    at_ms: int
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., plan: _Optional[str] = ..., backup_id: _Optional[str] = ..., at_ms: _Optional[int] = ...) -> None: ...

class RestoreState(_message.Message):
    __slots__ = ("id", "database_id", "backup_id", "safety_backup_id", "status", "reason", "created_at_ms", "ended_at_ms", "at_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    DATABASE_ID_FIELD_NUMBER: _ClassVar[int]
    BACKUP_ID_FIELD_NUMBER: _ClassVar[int]
    SAFETY_BACKUP_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    database_id: str
    backup_id: str
    safety_backup_id: str
    status: str
    reason: str
    created_at_ms: int
    ended_at_ms: int
    at_ms: int
    def __init__(self, id: _Optional[str] = ..., database_id: _Optional[str] = ..., backup_id: _Optional[str] = ..., safety_backup_id: _Optional[str] = ..., status: _Optional[str] = ..., reason: _Optional[str] = ..., created_at_ms: _Optional[int] = ..., ended_at_ms: _Optional[int] = ..., at_ms: _Optional[int] = ...) -> None: ...

class ArrivingDatabase(_message.Message):
    __slots__ = ("id", "name", "service_id", "account_id", "created_at_ms", "generation", "attempt")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    service_id: str
    account_id: str
    created_at_ms: int
    generation: int
    attempt: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., service_id: _Optional[str] = ..., account_id: _Optional[str] = ..., created_at_ms: _Optional[int] = ..., generation: _Optional[int] = ..., attempt: _Optional[str] = ...) -> None: ...

class BeginArrivalRequest(_message.Message):
    __slots__ = ("database", "probe")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    database: ArrivingDatabase
    probe: str
    def __init__(self, database: _Optional[_Union[ArrivingDatabase, _Mapping]] = ..., probe: _Optional[str] = ...) -> None: ...

class BeginArrivalReply(_message.Message):
    __slots__ = ("shares_archive",)
    SHARES_ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    shares_archive: bool
    def __init__(self, shares_archive: _Optional[bool] = ...) -> None: ...

class OfferObjectsRequest(_message.Message):
    __slots__ = ("database", "folder", "names")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    database: ArrivingDatabase
    folder: str
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, database: _Optional[_Union[ArrivingDatabase, _Mapping]] = ..., folder: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ...) -> None: ...

class OfferObjectsReply(_message.Message):
    __slots__ = ("missing",)
    MISSING_FIELD_NUMBER: _ClassVar[int]
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, missing: _Optional[_Iterable[str]] = ...) -> None: ...

class ReceiveObjectRequest(_message.Message):
    __slots__ = ("database", "name", "size_bytes", "sha256", "data")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    database: ArrivingDatabase
    name: str
    size_bytes: int
    sha256: str
    data: bytes
    def __init__(self, database: _Optional[_Union[ArrivingDatabase, _Mapping]] = ..., name: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class ReceiveObjectReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReceiveDatabaseRequest(_message.Message):
    __slots__ = ("database", "anew", "offset", "data", "size_bytes", "backups", "restores", "ends")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    ANEW_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    BACKUPS_FIELD_NUMBER: _ClassVar[int]
    RESTORES_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    database: ArrivingDatabase
    anew: bool
    offset: int
    data: bytes
    size_bytes: int
    backups: _containers.RepeatedCompositeFieldContainer[ArrivingBackup]
    restores: _containers.RepeatedCompositeFieldContainer[ArrivingRestore]
    ends: _containers.RepeatedCompositeFieldContainer[GenerationEnd]
    def __init__(self, database: _Optional[_Union[ArrivingDatabase, _Mapping]] = ..., anew: _Optional[bool] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., size_bytes: _Optional[int] = ..., backups: _Optional[_Iterable[_Union[ArrivingBackup, _Mapping]]] = ..., restores: _Optional[_Iterable[_Union[ArrivingRestore, _Mapping]]] = ..., ends: _Optional[_Iterable[_Union[GenerationEnd, _Mapping]]] = ...) -> None: ...

class ReceiveDatabaseReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ArrivingBackup(_message.Message):
    __slots__ = ("backup", "generation")
    BACKUP_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    backup: Backup
    generation: int
    def __init__(self, backup: _Optional[_Union[Backup, _Mapping]] = ..., generation: _Optional[int] = ...) -> None: ...

class ArrivingRestore(_message.Message):
    __slots__ = ("restore", "plan", "expires_at_ms", "generation")
    RESTORE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    restore: RestoreState
    plan: str
    expires_at_ms: int
    generation: int
    def __init__(self, restore: _Optional[_Union[RestoreState, _Mapping]] = ..., plan: _Optional[str] = ..., expires_at_ms: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class GenerationEnd(_message.Message):
    __slots__ = ("number", "ended_at_ms")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    number: int
    ended_at_ms: int
    def __init__(self, number: _Optional[int] = ..., ended_at_ms: _Optional[int] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeReply(_message.Message):
    __slots__ = ("rows_read_exact",)
    ROWS_READ_EXACT_FIELD_NUMBER: _ClassVar[int]
    rows_read_exact: bool
    def __init__(self, rows_read_exact: _Optional[bool] = ...) -> None: ...

"""The facts this service refuses a request for. Their texts are in the kit's catalogue.

TovukError
├── DatabaseNotFound, ServiceNotFound, InvalidResourceName, ResourceNameTaken
├── SqlSyntax, SqlConstraint, SqlFailed, StatementDenied, StatementEmpty, SeveralStatements, StatementTooLong
├── ParametersInvalid, TooManyParameters, BatchTooMany
├── QueryTooSlow, QueryInterrupted, ResultTooLarge, TextInvalid, CursorInvalid, CursorExpired
├── DatabaseFull, DatabaseBusy, ShardNotOwned
└── BackupNotFound, BackupNotReady, BackupUnderWay, BackupDamaged, BackupInterrupted, RestoreUnderWay,
    MomentUnavailable, HistoryDamaged
"""

from tovuk_kit.errors import TovukError


class DatabaseNotFound(TovukError):
    """No such database in the service, or not the caller's: one answer for both."""

    code = "sqlite_database_not_found"


class ServiceNotFound(TovukError):
    """The service was purged."""

    code = "service_not_found"


class InvalidResourceName(TovukError):
    """The name cannot be a resource's. Source: decisions.md, Names and ids."""

    code = "invalid_resource_name"


class ResourceNameTaken(TovukError):
    """Params: kind."""

    code = "resource_name_taken"


class SqlSyntax(TovukError):
    """Params: detail, statement, offset (bytes, -1 where SQLite does not say)."""

    code = "sqlite_syntax_error"


class SqlConstraint(TovukError):
    """Params: detail, statement, constraint (unique, primary_key, not_null, foreign_key, check, ...)."""

    code = "sqlite_constraint_failed"


class SqlFailed(TovukError):
    """Params: detail, statement."""

    code = "sqlite_statement_failed"


class StatementDenied(TovukError):
    """Params: detail, statement."""

    code = "sqlite_statement_denied"


class StatementEmpty(TovukError):
    """Params: statement."""

    code = "sqlite_statement_empty"


class SeveralStatements(TovukError):
    """Params: statement."""

    code = "sqlite_several_statements"


class StatementTooLong(TovukError):
    """Params: statement, limit_bytes."""

    code = "sqlite_statement_too_long"


class ParametersInvalid(TovukError):
    """Params: statement, reason."""

    code = "sqlite_parameters_invalid"


class TooManyParameters(TovukError):
    """Params: statement, limit."""

    code = "sqlite_too_many_parameters"


class BatchTooMany(TovukError):
    """Params: limit."""

    code = "sqlite_batch_too_many"


class QueryTooSlow(TovukError):
    """Params: limit_seconds."""

    code = "sqlite_query_too_slow"


class QueryInterrupted(TovukError):
    """The caller went away, or this process is on its way out."""

    code = "sqlite_query_interrupted"


class ResultTooLarge(TovukError):
    """Params: statement, limit_rows, limit_bytes."""

    code = "sqlite_result_too_large"


class TextInvalid(TovukError):
    """Params: statement."""

    code = "sqlite_text_invalid"


class CursorInvalid(TovukError):
    """The cursor was not given for this statement and these parameters."""

    code = "sqlite_cursor_invalid"


class CursorExpired(TovukError):
    """The database was written since the page before."""

    code = "sqlite_cursor_expired"


class DatabaseFull(TovukError):
    """Params: plan, limit_bytes."""

    code = "sqlite_database_full"


class ShardNotOwned(TovukError):
    """The shard is not this process's, or no longer; nothing was done."""

    code = "sqlite_shard_not_owned"


class DatabaseBusy(TovukError):
    """Too many queries of the account wait."""

    code = "sqlite_database_busy"


class BackupNotFound(TovukError):
    """The database has no such backup."""

    code = "sqlite_backup_not_found"


class BackupNotReady(TovukError):
    """The backup is being made, or failed. Params: status."""

    code = "sqlite_backup_not_ready"


class BackupUnderWay(TovukError):
    """A backup of the database is being made already."""

    code = "sqlite_backup_under_way"


class BackupDamaged(TovukError):
    """What was copied or kept is not a whole database, or not the one that was put there."""

    code = "sqlite_backup_damaged"


class BackupInterrupted(TovukError):
    """The process ended while the copy was made."""

    code = "sqlite_backup_interrupted"


class RestoreUnderWay(TovukError):
    """The database is being restored already."""

    code = "sqlite_restore_under_way"


class MomentUnavailable(TovukError):
    """The moment is not over yet, or lies before what is kept."""

    code = "sqlite_moment_unavailable"


class HistoryDamaged(TovukError):
    """Something of the history that the moment needs is missing, or is not what was put there."""

    code = "sqlite_history_damaged"

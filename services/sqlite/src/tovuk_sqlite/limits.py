"""The limits of SQLite databases, a unit in every name. Source unless said otherwise: decisions.md, SQLite service."""

from typing import Final

_MIB_BYTES: Final = 1024 * 1024

#: Bytes of one statement: 100 KB.
STATEMENT_BYTES_MAX: Final = 100_000
#: How long a query or batch may take; the published client gives up after 30 s.
QUERY_SECONDS_MAX: Final = 25
#: Statements of one batch.
BATCH_ENTRIES_MAX: Final = 1_000
#: Rows and bytes of JSON of one page of a result.
PAGE_ENTRIES_MAX: Final = 10_000
PAGE_BYTES_MAX: Final = 10 * _MIB_BYTES
#: Parameters of one statement, by plan.
PARAMETER_ENTRIES_MAX: Final = {"free": 100}
PARAMETER_ENTRIES_MAX_ELSE: Final = 32_766
#: Bytes of one database's file, by plan. Source: the price book, sqliteDatabaseMib.
DATABASE_BYTES_MAX: Final = {"free": 500 * _MIB_BYTES, "pro": 9_536 * _MIB_BYTES, "self_hosted": 9_536 * _MIB_BYTES}
#: Bytes of one value and of one row. Source: own choice; a larger one fits no request's body.
VALUE_BYTES_MAX: Final = 4 * _MIB_BYTES

#: How long backups and the history are kept, and how many backups of each kind a database has, by plan: beyond, the
#: oldest goes for the next.
#: Source: own choice; the documents name none.
BACKUP_DAYS: Final = {"free": 7, "pro": 30, "self_hosted": 30}
BACKUP_ENTRIES_MAX: Final = {"free": 5, "pro": 30, "self_hosted": 100}
#: Backups and restores that are made at once, of all databases.
BACKUPS_CONCURRENT_ENTRIES_MAX: Final = 2
#: How long a write waits for a restore to put the next generation in place.
GATE_SECONDS_MAX: Final = 10
#: Commits so near to one another are one moment of the history.
HISTORY_SLICE_MS: Final = 50
#: Frames of one segment of the history.
SEGMENT_ENTRIES_MAX: Final = 1_024
#: Segments, and bytes of their pages, after which there is a new base; more bytes where the file is larger.
SEGMENTS_ENTRIES_MAX: Final = 4_096
SEGMENTS_BYTES_MIN: Final = 16 * _MIB_BYTES
#: How long after a group's last commit its segments are compacted: long after every owner before has ended.
COMPACT_AFTER_MS: Final = 3_600_000
#: Bytes of an object that several segments were put into.
COMPACTED_BYTES_MAX: Final = 16 * _MIB_BYTES
#: How large a WAL may grow while the archive is away; then it is copied back, and the history has a gap.
HISTORY_WAL_BYTES_MAX: Final = 64 * _MIB_BYTES
#: Histories that are shipped at once, and bases that are copied at once.
SHIPMENTS_ENTRIES_MAX: Final = 4
BASES_ENTRIES_MAX: Final = 2

#: Bytes of a chunk of an answer on the wire.
CHUNK_BYTES: Final = 256 * 1024
#: A query that has run so long goes behind every other work of the machine.
LONG_SECONDS: Final = 0.1
#: Queries of one database that read at once.
READS_CONCURRENT_MAX: Final = 2
#: Queries of one account that wait; beyond, more waiting helps nobody.
CALLS_WAITING_MAX: Final = 1_000
#: Writes that one commit may make durable, and the time after which it is made.
GROUP_WRITES_MAX: Final = 64
GROUP_SECONDS_MAX: Final = 0.02
#: What is done at once, of one statement: its text, rows of its answer, bytes of the answer, rows it reads and writes.
SHORT_SQL_CHARACTERS_MAX: Final = 8_192
SHORT_ENTRIES_MAX: Final = 1_000
SHORT_BYTES_MAX: Final = 64 * 1024
SHORT_READ_ENTRIES_MAX: Final = 1_000
SHORT_WRITTEN_ENTRIES_MAX: Final = 100
#: Rows that each further statement of a batch may read and write.
SHORT_FURTHER_ENTRIES_MAX: Final = 10
#: The time of one that reads, and of all that one turn of the event loop runs of one database: others wait meanwhile.
SHORT_READ_SECONDS_MAX: Final = 0.001
SHORT_READS_SECONDS_MAX: Final = 0.002
#: The time of one that writes: those of its group wait meanwhile.
SHORT_WRITE_SECONDS_MAX: Final = 0.005
#: Seconds an account may lose of a second with statements that turned out not to be short; and how long one is known.
SHORT_LOST_SECONDS_MAX: Final = 0.01
NOT_SHORT_SECONDS: Final = 10
#: Statements about which something is known.
STATEMENT_CACHE_ENTRIES_MAX: Final = 20_000
#: Files that are open at once; the one used longest ago is closed for the next.
OPEN_ENTRIES_MAX: Final = 128
#: Databases the cache of lookups holds.
DATABASE_CACHE_ENTRIES_MAX: Final = 10_000
#: What a WAL grows by until it is copied back: writes wait meanwhile, the longer the more there is.
CHECKPOINT_BYTES: Final = 4 * _MIB_BYTES
#: Reads that wait for their next page, of all accounts and of one; and how long. Their snapshots keep the WAL from
#: being copied back.
SUSPENDED_ENTRIES_MAX: Final = 64
SUSPENDED_PER_ACCOUNT_ENTRIES_MAX: Final = 8
SUSPENDED_SECONDS: Final = 15.0
#: Free pages are given back when they are so many bytes and so many percent of the file: less is soon used again.
SHRINK_BYTES_MIN: Final = _MIB_BYTES
SHRINK_PERCENT_MIN: Final = 25
#: Units of rows that a run reserves first; each time they do not suffice it reserves eight times as many.
FIRST_UNIT_ENTRIES: Final = 1_000
#: What is reserved where no limit binds.
UNLIMITED_ENTRIES: Final = 2**40
#: Bytes a run that writes may grow its file by at first, where a limit on bytes binds.
FIRST_ROOM_BYTES: Final = _MIB_BYTES
#: A page of a file: what it grows by.
PAGE_BYTES: Final = 4096

"""The limits of KV, a unit in every name. Source: product facts, KV, Limits; decisions.md, KV."""

#: Bytes of a key in UTF-8.
KEY_BYTES_MAX = 512
#: Bytes of a decoded value: 25 MiB.
VALUE_BYTES_MAX = 25 * 1024 * 1024
#: Bytes of a value's metadata as compact JSON.
METADATA_BYTES_MAX = 1024
#: Seconds a value with a time to live lasts at least.
TTL_SECONDS_MIN = 30
#: The largest Unix second an expiration may name: the last of the year 9999.
EXPIRATION_SECONDS_MAX = 253_402_300_799
#: Keys of one page of a list.
LIST_KEYS_MIN = 10
LIST_KEYS_MAX = 1000
LIST_KEYS_DEFAULT = 1000
#: Keys of one bulk read.
BULK_READ_KEYS_MAX = 100
#: Entries of one bulk write, keys of one bulk deletion.
BULK_WRITE_ENTRIES_MAX = 10_000
#: Bytes of one bulk request; here of its keys, values and metadata.
BULK_BODY_BYTES_MAX = 100_000_000

#: Bytes up to which a value lies within its record; larger ones are written beside and streamed.
INLINE_VALUE_BYTES_MAX = 64 * 1024
#: Bytes of one piece of a streamed value.
CHUNK_BYTES = 256 * 1024
#: Entries of a bulk request that one transaction takes, and the bytes after which it is closed early.
BULK_STEP_ENTRIES_MAX = 256
BULK_STEP_BYTES_MAX = 4 * 1024 * 1024
#: Bulk writes whose entries are in memory at once.
BULK_WRITES_CONCURRENT_MAX = 2
#: Keys a transaction of the background removes.
SWEEP_SLICE_KEYS = 500
#: Namespaces the cache of lookups holds.
NAMESPACE_CACHE_ENTRIES_MAX = 10_000

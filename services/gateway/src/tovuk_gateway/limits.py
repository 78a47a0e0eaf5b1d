"""The gateway's public limits, each with its source; the unit stands in the name."""

from typing import Final

#: Source: contract 4.6, Values are limited to 25 MiB.
VALUE_BYTES_MAX: Final = 25 * 1024 * 1024
#: JSON may write every byte of a value as six (\u00XX), and metadata and the other fields need some room beside it.
PUT_BODY_BYTES_MAX: Final = 6 * VALUE_BYTES_MAX + 64 * 1024
#: Source: decisions, KV: 100 MB after decompression.
BULK_BODY_BYTES_MAX: Final = 100_000_000
#: Bodies of every other route. Source: own choice.
PLAIN_BODY_BYTES_MAX: Final = 64 * 1024
#: Bodies that are parsed whole; larger puts are parsed while they arrive.
SMALL_BODY_BYTES_MAX: Final = 64 * 1024
#: What a put may hold beside its value string. Source: own choice.
PUT_SKELETON_BYTES_MAX: Final = 64 * 1024
#: Source: decisions, Replies: strict JSON; own choice of the depth.
JSON_DEPTH_MAX: Final = 64

#: Source: contract 4.6, Bulk reads accept 100 keys. Bulk writes and deletes accept 10000 keys.
BULK_READ_KEYS_MAX: Final = 100
BULK_WRITE_KEYS_MAX: Final = 10_000
#: A query's body: the largest value as base64, within one message to the service. Source: own choice.
QUERY_BODY_BYTES_MAX: Final = 6 * 1024 * 1024
#: Source: decisions, SQLite service: 1,000 statements a batch.
BATCH_ENTRIES_MAX: Final = 1_000
#: Source: contract 4.6, Key list pages default to 1000 keys and accept limits from 10 to 1000.
KEY_PAGE_MIN: Final = 10
KEY_PAGE_MAX: Final = 1_000
#: Source: contract 4.6, expirationTtlSeconds must be at least 30 seconds.
TTL_SECONDS_MIN: Final = 30
#: The largest moment and time to live in seconds: an integer in every JSON reader.
SECONDS_MAX: Final = 2**53 - 1

#: Request line and headers together. Source: own choice; a 512-byte key is 1,536 bytes when each is percent-encoded.
HEAD_BYTES_MAX: Final = 32 * 1024
HEADERS_MAX: Final = 100
#: From a request's first byte to the end of its headers.
HEAD_SECONDS_MAX: Final = 10.0
#: Between two pieces of a body.
BODY_PAUSE_SECONDS_MAX: Final = 15.0
#: A whole body: 25 MiB at 2 Mbit/s.
BODY_SECONDS_MAX: Final = 120.0
#: An idle connection between requests.
KEEP_ALIVE_SECONDS: Final = 75
#: A peer that takes no byte of an answer for so long is gone.
WRITE_STALL_SECONDS_MAX: Final = 60.0
#: What is read and thrown away after an early answer, so that the peer can finish sending and then read it.
DISCARD_BYTES_MAX: Final = 160 * 1024 * 1024

#: Source: decisions, Tokens: positive answers live 5 s, 30 s while control is unreachable.
CACHE_SECONDS: Final = 4.75
#: The fast path looks at the caches that often; together with what they hold it makes the five seconds.
PLACE_SECONDS: Final = 0.25
CACHE_UNREACHABLE_SECONDS: Final = 30.0
REFUSAL_CACHE_SECONDS: Final = 1.0
CACHE_ENTRIES_MAX: Final = 10_000
#: Databases whose shard is remembered.
PLACEMENT_CACHE_ENTRIES_MAX: Final = 100_000
#: Accounts whose last usage is kept for while metering is away.
USAGE_MEMORY_ENTRIES_MAX: Final = 200

"""Redis engine: not yet."""


class RedisStore:
    """Placeholder until the next commit."""

"""The Tovuk kv service."""

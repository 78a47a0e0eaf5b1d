"""The Tovuk control service."""

"""The Tovuk gateway service."""

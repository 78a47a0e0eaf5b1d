"""The Tovuk metering service."""

"""Calls to what is outside: control, and the stream of usage reports."""

"""Calls to other services, one module for each."""

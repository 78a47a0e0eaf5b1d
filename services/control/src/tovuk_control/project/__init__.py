"""Accounts, their tokens and services, the registry of resources, and the record of what happened."""

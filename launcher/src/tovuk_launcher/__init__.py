"""Starts every service on this machine and keeps them running."""

"""Reasons not to start, each with what to do about it."""


class Refusal(Exception):
    """The product cannot start; the message tells a person why and what to do."""

"""The first account's token: chosen and shown once, at the first start that succeeds."""

from pathlib import Path

from tovuk_kit.tokens import new_token


class FirstStart:
    """Knows whether this data directory has answered before, and which token its first account shall have.

    Only control's hash of the token is durable, so a token of ours is shown at the one start that chose it. A start
    that never became ready leaves no mark: the next chooses again.
    """

    def __init__(self, data: Path, chosen_token: str) -> None:
        self._mark = data / "started"
        self.is_first = not self._mark.exists()
        #: Empty when the account has its token and the operator named none.
        self.token = chosen_token or (new_token("user") if self.is_first else "")

    def done(self) -> None:
        """The product has answered: the token is known to control."""
        self._mark.touch(mode=0o600)

"""What every data channel has among its answers.

Changing a field's order or type breaks the wire: the golden-bytes test guards it.
"""

import msgspec


class Failed(msgspec.Struct, array_like=True, tag="e", gc=False):
    """A code of the catalogue with its params; `retry_after_ms` is -1 for none."""

    id: int
    code: str
    params: dict[str, str]
    outcome: str
    retry_after_ms: int

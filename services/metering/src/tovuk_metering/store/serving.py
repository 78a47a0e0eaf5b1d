"""Which process serves this database: the newest, and only it."""

from tovuk_kit.database import Tx


def take_over(tx: Tx) -> int:
    """Become the serving process; returns the number it is known by."""
    tx.lock("serving")
    rows = tx.execute(
        "INSERT INTO serving (only_row, incarnation) VALUES (1, 1)"
        " ON CONFLICT (only_row) DO UPDATE SET incarnation = serving.incarnation + 1 RETURNING incarnation"
    )
    return int(rows[0][0])


def is_serving(tx: Tx, incarnation: int) -> bool:
    """Whether no newer process has taken over."""
    return tx.execute("SELECT incarnation FROM serving") == [(incarnation,)]

"""What an id or a name means, or that it means nothing. Text that cannot be either never reaches the database."""

import re
from typing import Final

from tovuk_control.errors import AccountNotFound, ServiceNotFound
from tovuk_control.store import accounts, services
from tovuk_control.store.accounts import Account
from tovuk_control.store.services import Service
from tovuk_kit.database import Tx
from tovuk_kit.ids import has_id_shape

#: No underscore, so a name never has the shape of an id. Source: contract 5.1.
SERVICE_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")


def find_account(tx: Tx, account_id: str) -> Account:
    """The account of an id. Raises AccountNotFound."""
    account = accounts.get(tx, account_id) if has_id_shape(account_id) else None
    if account is None:
        raise AccountNotFound
    return account


def find_service(tx: Tx, account_id: str, ref: str) -> Service:
    """The account's living service of an id or a name. Raises ServiceNotFound, the same for foreign and absent ones."""
    service = None
    if has_id_shape(account_id) and has_id_shape(ref):
        service = services.living_by_id(tx, account_id, ref)
    elif has_id_shape(account_id) and SERVICE_NAME.fullmatch(ref):
        service = services.living_by_name(tx, account_id, ref)
    if service is None:
        raise ServiceNotFound
    return service

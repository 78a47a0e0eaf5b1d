"""Which namespace a caller means, remembered until somebody finds it gone."""

from typing import NamedTuple

from tovuk_kv.errors import NamespaceNotFound
from tovuk_kv.limits import NAMESPACE_CACHE_ENTRIES_MAX
from tovuk_kv.store.base import Namespace, Store


class Target(NamedTuple):
    """The namespace a caller means: an id or a name within a service of an account."""

    account_id: str
    service_id: str
    ref: str


class Directory:
    """The namespaces that were asked for, by service and by id or name.

    A deleted one may still stand here: every effect and every read checks in the store that it is open.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, str], Namespace] = {}

    def known(self, target: Target) -> Namespace | None:
        """The namespace, if it is remembered and the caller's."""
        namespace = self._known.get((target.service_id, target.ref))
        return namespace if namespace is not None and namespace.account_id == target.account_id else None

    async def resolve(self, target: Target) -> Namespace:
        """The namespace that is meant; raises NamespaceNotFound, the same for absent and foreign ones."""
        place = (target.service_id, target.ref)
        namespace = self._known.get(place)
        if namespace is None:
            namespace = await self._store.find(*place)
            if namespace is None:
                raise NamespaceNotFound
            if len(self._known) >= NAMESPACE_CACHE_ENTRIES_MAX:
                self._known.pop(next(iter(self._known)))
            self._known[place] = namespace
        if namespace.account_id != target.account_id:
            raise NamespaceNotFound
        return namespace

    def forget(self, namespace: Namespace) -> None:
        """Look the namespace up again before it is used."""
        self._known.pop((namespace.service_id, namespace.id), None)
        self._known.pop((namespace.service_id, namespace.name), None)

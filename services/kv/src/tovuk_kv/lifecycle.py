"""How namespaces come and go: reserved in control's registry, then stored here, then confirmed; released when gone.

The store is the truth, the registry follows: what a crash or an unreachable control leaves between the two is settled
by `upkeep`. A deleted namespace is gone at once, and its bytes off the level at once; its keys are removed in slices
later.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final

from tovuk_kit.clock import Clock
from tovuk_kit.errors import Outcome, TovukError
from tovuk_kit.ids import has_id_shape, new_id
from tovuk_kit.leases import Meters
from tovuk_kit.registry import Claim, Registry
from tovuk_kv.directory import Target
from tovuk_kv.errors import InvalidResourceName, NamespaceNotFound, ResourceNameTaken, ServiceNotFound
from tovuk_kv.namespace import Namespaces
from tovuk_kv.room import STORAGE
from tovuk_kv.store.base import Namespace, NameTaken, Store, Tombstoned

#: The kind of resource, as control's registry calls it.
KIND: Final = "kv_namespace"
#: Who removes what a purged service leaves.
OWNER: Final = "kv"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
#: Words the routes use where a name may stand. Source: decisions.md, Names and ids.
_RESERVED_NAMES = frozenset({"namespaces", "databases"})

_log = logging.getLogger(__name__)


class Lifecycle:
    """Creating, deleting and listing namespaces."""

    def __init__(self, store: Store, namespaces: Namespaces, registry: Registry, meters: Meters, clock: Clock) -> None:
        self._store = store
        self._namespaces = namespaces
        self._registry = registry
        self._meters = meters
        self._clock = clock
        #: Ids that are being created here; nobody else may settle them.
        self._creating: set[str] = set()

    async def create(self, account_id: str, service_id: str, name: str) -> Namespace:
        """A new namespace, durable and registered.

        Raises InvalidResourceName, ServiceNotFound, ResourceNameTaken, and what control's registry says.
        """
        if _NAME.fullmatch(name) is None or has_id_shape(name) or name in _RESERVED_NAMES:
            raise InvalidResourceName
        namespace = Namespace(new_id("kv"), name, service_id, account_id, self._clock.wall_ms())
        claim = _claim(namespace)
        self._creating.add(namespace.id)
        try:
            await self._registry.reserve(account_id, claim)
            try:
                await self._store.create(namespace)
            except (Tombstoned, NameTaken, TovukError) as error:
                if not isinstance(error, TovukError) or error.outcome is not Outcome.UNKNOWN:
                    await self._tell(self._registry.release, claim)
                if isinstance(error, Tombstoned):
                    raise ServiceNotFound from error
                if isinstance(error, NameTaken):
                    raise ResourceNameTaken(kind="KV namespace") from error
                raise
            await self._tell(self._registry.confirm, claim)
        finally:
            self._creating.discard(namespace.id)
        return namespace

    async def delete(self, target: Target) -> Namespace:
        """The namespace that is gone. Raises NamespaceNotFound."""
        namespace = await self._store.find(target.service_id, target.ref)
        if namespace is None or namespace.account_id != target.account_id:
            raise NamespaceNotFound
        await self._drop(namespace)
        await self._tell(self._registry.release, _claim(namespace))
        return namespace

    async def list(self, service_id: str) -> list[Namespace]:
        """The service's namespaces by name."""
        return await self._store.namespaces(service_id)

    async def finish_deletions(self) -> None:
        """Bring every deletion that was begun to its end: keys, registry, last trace."""
        for namespace in await self._store.dropped():
            # Again, for one whose deletion was interrupted.
            await self._drop(namespace)
            while not await self._store.clear(namespace):
                pass
            await self._registry.release(_claim(namespace))
            await self._store.forget(namespace)

    async def settle(self) -> None:
        """Tell the registry of claims it holds open whether they exist."""
        for claim in await self._registry.unsettled():
            if claim.resource_id in self._creating:
                continue
            if await self._store.find(claim.service_id, claim.resource_id) is None:
                await self._registry.release(claim)
            else:
                await self._registry.confirm(claim)

    async def bury_services(self) -> None:
        """Remove everything of purged services, and acknowledge."""
        for service_id in await self._registry.tombstones():
            for namespace in await self._store.entomb(service_id):
                await self._drop(namespace)
            await self.finish_deletions()
            await self._registry.acknowledge(service_id)

    async def _drop(self, namespace: Namespace) -> None:
        lowered = await self._store.drop(namespace)
        self._namespaces.directory.forget(namespace)
        for partition in lowered:
            self._meters.level_changed(partition, namespace.account_id, STORAGE)

    @staticmethod
    async def _tell(call: Callable[[Claim], Awaitable[None]], claim: Claim) -> None:
        try:
            await call(claim)
        except TovukError as error:
            _log.warning("the registry will be told later of %s: %s", claim.resource_id, error)


def _claim(namespace: Namespace) -> Claim:
    return Claim(namespace.service_id, namespace.id, namespace.name)

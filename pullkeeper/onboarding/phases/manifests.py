"""Phase: apply namespaces, service accounts and the credential configuration (fifth and sixth step of the guide)."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pullkeeper.cluster import manifests
from pullkeeper.model import Target
from pullkeeper.onboarding import objects
from pullkeeper.onboarding.documents import Onboarding
from pullkeeper.onboarding.phases import pull_secret as pull_secret_phase
from pullkeeper.onboarding.work import Work
from pullkeeper.publisher.hub import Hub

NAME: Final = "manifests"


async def plan(work: Work) -> str:
    return await objects.plan_all(work, _build(work))


async def do(work: Work) -> str:
    return await objects.apply_all(work, _build(work))


async def undo(work: Work) -> str:
    """Remove the objects, and the secrets once more: a refresh that was under way when the cluster left the fleet may
    have written one meanwhile, where the identity that refreshes has more rights than its role.
    """
    await pull_secret_phase.undo(work)
    return await objects.remove_all(work, list_objects(work))


def list_objects(work: Work) -> list[dict[str, Any]]:
    """Kind and name of all objects that onboardings of the cluster may have created; other fields may be empty."""
    config_maps = (manifests.credential_config_map(namespace, None) for namespace in _namespaces(work.targets))
    return [*_accounts(work.targets, frozenset(), ""), *config_maps]


def _build(work: Work) -> list[dict[str, Any]]:
    """In the order to apply them. The credential configuration is missing before the publisher has sent it."""
    targets, hub = work.request.named, work.hub()
    client_id = work.identity.client_id if work.identity else ""
    federated = frozenset(work.request.federated_accounts)
    return [*_accounts(targets, federated, client_id), *(_credential_configs(work.request, hub) if hub else ())]


def _accounts(
    targets: Iterable[Target], federated: frozenset[tuple[str, str]], client_id: str
) -> Iterator[dict[str, Any]]:
    """Namespaces and service accounts. client_id: of the identity that the federated ones get."""
    yield from map(manifests.namespace, _namespaces(targets))
    accounts = ((target.namespace, name) for target in targets for name in target.account_names)
    for namespace, account in dict.fromkeys(accounts):
        yield manifests.service_account(namespace, account, client_id if (namespace, account) in federated else None)


def _credential_configs(request: Onboarding, hub: Hub) -> Iterator[dict[str, Any]]:
    """A pod has one token of the cluster, for `audience`. Google accepts it in chain kubernetes, from the accounts in
    the handover, if the provider has to allow this audience.
    """
    trusted = request.trusts_cluster and hub.entra_resource == request.audience
    for namespace in _namespaces(request.named):
        targets = [target for target in request.named if target.namespace == namespace]
        accounts = dict.fromkeys(account for target in targets for account in target.account_names[:1])
        yield manifests.credential_config_map(namespace, hub.credential_config, accounts if trusted else ())


def _namespaces(targets: Iterable[Target]) -> list[str]:
    return list(dict.fromkeys(target.namespace for target in targets))

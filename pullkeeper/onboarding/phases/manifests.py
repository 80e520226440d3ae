"""Phase: what has to be in the cluster before a secret can be: the guide's fifth and sixth step.

What we made carries our label and our field manager; that, and only that, goes when the cluster is offboarded. What
somebody else made gets the fields that are needed, and has them taken out again. Where `adopt` had to take a field over
from somebody, its value stays: without it the object might be good for nothing.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pullkeeper.cluster import manifests
from pullkeeper.model import Target
from pullkeeper.onboarding import applying
from pullkeeper.onboarding.phases import pull_secret as pull_secret_phase
from pullkeeper.onboarding.work import Work
from pullkeeper.publisher.credential_config import CredentialConfig

NAME: Final = "manifests"


async def plan(work: Work) -> str:
    return await applying.planned(work, _wanted(work))


async def do(work: Work) -> str:
    return await applying.put_all(work, _wanted(work))


async def undo(work: Work) -> str:
    """A refresh that was under way when the cluster left the fleet may have written meanwhile: where one identity does
    all, or the cluster has local accounts, no missing role stops it. So the secrets are looked for once more.
    """
    await pull_secret_phase.undo(work)
    return await applying.take_all_away(work, made(work))


def made(work: Work) -> list[dict[str, Any]]:
    """By name: what onboardings of the cluster may have made."""
    return [*_around(work.targets, ""), *_credential_config(work.targets, None)]


def _wanted(work: Work) -> list[dict[str, Any]]:
    """In the order to apply them. What needs the publisher's answer is not among them before it is there."""
    targets, hub = work.request.targets, work.hub()
    client_id = work.identity.client_id if work.identity else ""
    return [*_around(targets, client_id), *(_credential_config(targets, hub.credential_config) if hub else ())]


def _around(targets: Iterable[Target], client_id: str) -> Iterator[dict[str, Any]]:
    yield from map(manifests.namespace, _namespaces(targets))
    accounts = ((target.namespace, name) for target in targets for name in target.service_accounts)
    for namespace, account in dict.fromkeys(accounts):
        yield manifests.service_account(namespace, account, client_id)


def _credential_config(targets: Iterable[Target], config: CredentialConfig | None) -> Iterator[dict[str, Any]]:
    return (manifests.credential_config_map(namespace, config) for namespace in _namespaces(targets))


def _namespaces(targets: Iterable[Target]) -> list[str]:
    return list(dict.fromkeys(target.namespace for target in targets))

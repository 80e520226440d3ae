"""Phase: give the right to write the secret to the identity that refreshes, or to a CronJob in the cluster.

It replaces the guide's role, which may delete every secret of the namespace, and the guide's CronJob.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

from pullkeeper.cluster import in_cluster, pull_secret, rights
from pullkeeper.cluster.api import path_of
from pullkeeper.errors import AdministratorMissing, ClusterRbacDenied, SecretConflict
from pullkeeper.model import selectors_in
from pullkeeper.onboarding import objects
from pullkeeper.onboarding.documents import Onboarding
from pullkeeper.onboarding.phases.inspect_cluster import has_policies
from pullkeeper.onboarding.work import Work
from pullkeeper.refresh.search import list_targets

NAME = "refresher"
_NAMED: Final = 10


class NameTaken(SecretConflict):
    """`adopt` is no way out: no target covers the namespace."""

    remedy_template = (
        "kubectl get secret {secret} -n {namespace} --show-managed-fields shows the owner; "
        "choose another name in the target, or delete that secret."
    )


async def plan(work: Work) -> str:
    if work.request.refresher == "in-cluster" and work.hub() is None:
        return "would be built from the publisher's credential configuration, which is still missing"
    await _check_names(work)
    async with _hand_out_policy(work):
        return await objects.plan_all(work, _build(work))


async def do(work: Work) -> str:
    await _check_names(work)
    async with _hand_out_policy(work):
        return await objects.apply_all(work, _build(work))


async def undo(work: Work) -> str:
    """Runs before the secret is deleted: a CronJob that still exists, or a pod of it, would create the secret again."""
    return await objects.remove_all(work, list_objects(work, work.requests))


async def _check_names(work: Work) -> None:
    """With a cluster role its holder can read a secret of the selectors' names in any namespace: where a patch fails,
    the API server quotes the object, before it asks a policy. So there must be none that is not to be ours. Raises
    NameTaken.
    """
    selectors = selectors_in(work.request.targets)
    if not selectors:
        return
    api = await work.api()
    listing = await list_targets(api, selectors, work.tools.clock())
    covered = {*map(str, work.request.named), *listing.found, *listing.ending}
    for name in sorted({selector.secret for selector in selectors}):
        others = [space for space in await pull_secret.list_foreign(api, name) if f"{space}/{name}" not in covered]
        if others:
            raise NameTaken(
                f"{len(others)} namespaces that no target covers have a secret {name} of another owner, which the "
                f"app's identity could read: {', '.join(others[:_NAMED])}",
                {"namespace": others[0], "secret": name},
            )


def list_objects(work: Work, requests: Iterable[Onboarding]) -> list[dict[str, Any]]:
    """Kind and name of all objects that these onboardings may have created; needs no hub."""
    principals = dict.fromkeys((*work.principals, work.app_claims.get("oid", "")))
    found = (manifest for request in requests for one in principals for manifest in _name_objects(work, request, one))
    return list({path_of(manifest): manifest for manifest in found}.values())


def list_wanted(work: Work) -> list[dict[str, Any]]:
    """Kind and name of all objects that the request needs."""
    return list(_name_objects(work, work.request, work.app_claims.get("oid", "")))


def _name_objects(work: Work, request: Onboarding, principal: str) -> Iterator[dict[str, Any]]:
    if request.refresher == "central":
        yield from _build_access(work, request, principal)
    else:
        for target in request.named:
            yield from in_cluster.name_objects(target)


def _build_access(work: Work, request: Onboarding, principal: str) -> list[dict[str, Any]]:
    """The policy first, so that it is wide enough, or narrow enough, before the rights are."""
    policy = rights.admission_policy(request.targets, principal, adopt=request.adopt) if has_policies(work) else []
    return [*policy, *rights.access(request.targets, principal)]


@asynccontextmanager
async def _hand_out_policy(work: Work) -> AsyncIterator[None]:
    """Where the cluster's owner keeps admission policies to themselves, put ours into the result, and stop: without it
    there are no rights. Raises AdministratorMissing.
    """
    try:
        yield
    except ClusterRbacDenied as e:
        if not str(e.context.get("object")).startswith("validatingadmissionpolic"):
            raise
        policy = rights.admission_policy(work.request.targets, work.app_claims["oid"], adopt=work.request.adopt)
        work.manifests.extend(policy)
        raise AdministratorMissing(
            f"{e.detail}. The result holds the policy's manifests. Where someone who may applies them (kubectl apply "
            "--server-side --field-manager=pullkeeper -f -), the identity that onboards needs only to get them",
            {"principal": await work.tools.access.principal()},
        ) from None


def _build(work: Work) -> list[dict[str, Any]]:
    """In the order to apply them. With an in-cluster refresher the app gets no role."""
    request, hub = work.request, work.hub()
    if request.refresher == "central":
        return _build_access(work, request, work.app_claims["oid"])
    if hub is None:
        raise RuntimeError("the handover waits for the hub")
    client_id, tenant = (work.identity.client_id, work.identity.tenant_id) if work.identity else ("", "")
    return [
        manifest
        for target in request.named
        for manifest in in_cluster.build_refresher(
            target,
            hub,
            client_id,
            tenant,
            request.chain,
            cloud=work.tools.cloud,
            audience=work.audience,
            adopt=request.adopt,
            image=request.refresher_image,
        )
    ]

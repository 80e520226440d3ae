"""Phase: what has to be in the cluster before a secret can be: the guide's fifth and sixth step, and its role.

Every object carries our label only if we made it: what somebody else made gets the fields that are needed, keeps the
rest, and is there after offboarding as it was before.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pullkeeper import manifests
from pullkeeper.in_cluster import in_cluster_refresher
from pullkeeper.kube import path_of
from pullkeeper.onboarding.work import Work

NAME = "manifests"
_LABEL = {"app.kubernetes.io/managed-by": "pullkeeper"}


async def plan(work: Work) -> str:
    if not work.reachable:
        return "would hand out manifests"
    missing = []
    for manifest in rendered(work):
        found = await (await work.api()).find(path_of(manifest))
        if found is None:
            missing.append(_name(manifest))
    return f"would make {', '.join(missing)}" if missing else "all there already; would be kept as they should be"


async def do(work: Work) -> str:
    if not work.reachable:
        work.rendered.extend(rendered(work))
        return f"{len(work.rendered)} manifests to apply"
    made = [_name(manifest) for manifest in rendered(work) if await put(work, manifest)]
    return f"made {', '.join(made)}" if made else "all there already"


async def undo(work: Work) -> str:
    told = [await take_away(work, manifest) for manifest in reversed(list(_all(work)))]
    return "; ".join(told)


def names(work: Work) -> list[str]:
    """Of all that this may have made."""
    return [_name(manifest) for manifest in _all(work)]


def rendered(work: Work) -> Iterator[dict[str, Any]]:
    """In the order to apply them. What needs the publisher's answer is not among them before it is there."""
    for manifest in _all(work):
        if work.hub() or manifest["kind"] != "ConfigMap":
            yield manifest


def _all(work: Work) -> Iterator[dict[str, Any]]:
    """Complete once identity and hub are known; before, and after, by name."""
    client_id, tenant = (work.identity.client_id, work.identity.tenant_id) if work.identity else ("", "")
    for manifest in manifests.refresher_access(work.request.targets, work.app["oid"]):
        # Who has the cluster refresh itself lets nobody in from outside: not even us.
        if work.request.refresher == "central" or manifest["kind"] == "Namespace":
            yield manifest
    accounts = ((target.namespace, name) for target in work.request.targets for name in target.service_accounts)
    for namespace, account in dict.fromkeys(accounts):
        yield manifests.service_account(namespace, account, client_id)
    hub = work.hub()
    for namespace in dict.fromkeys(target.namespace for target in work.request.targets):
        yield manifests.credential_config_map(namespace, hub.credential_config if hub else None)
    if hub and work.request.refresher == "in-cluster":
        for target in work.request.targets:
            yield from in_cluster_refresher(
                target, hub, client_id, tenant, work.request.chain, adopt=work.request.adopt
            )


async def put(work: Work, manifest: Mapping[str, Any]) -> bool:
    """Apply it; with our label if it is new or ours. Whether it is new."""
    api = await work.api()
    path = path_of(manifest)
    found = await api.find(path)
    ours = found is None or _is_ours(found)
    labels = {**manifest["metadata"].get("labels", {})}
    body = {**manifest, "metadata": {**manifest["metadata"], "labels": {**labels, **(_LABEL if ours else {})}}}
    if not ours:
        body["metadata"]["labels"] = {key: value for key, value in labels.items() if key not in _LABEL}
        if manifest["kind"] == "Namespace":
            return False
    # In what is ours, an edit by somebody else is drift.
    force = work.request.adopt or (found is not None and ours)
    return (await api.apply(path, body, force=force, strict=True)).created


async def take_away(work: Work, manifest: Mapping[str, Any]) -> str:
    """Delete what carries our label; give back the fields that we hold in what does not. Namespaces stay."""
    api = await work.api()
    path, name = path_of(manifest), _name(manifest)
    found = await api.find(path)
    if found is None:
        return f"{name} is gone"
    if manifest["kind"] == "Namespace":
        work.left.append(f"{name}: it may hold what is not ours")
        return f"{name} stays"
    if not _is_ours(found):
        await api.release(path, manifest)
        work.left.append(f"{name}: Pullkeeper did not make it; our fields in it are gone")
        return f"{name} given back"
    await api.delete(path, found["metadata"]["uid"])
    return f"{name} deleted"


def _is_ours(found: Mapping[str, Any]) -> bool:
    return (found["metadata"].get("labels") or {}).items() >= _LABEL.items()


def _name(manifest: Mapping[str, Any]) -> str:
    metadata = manifest["metadata"]
    space = f"{metadata['namespace']}/" if "namespace" in metadata else ""
    return f"{manifest['kind']} {space}{metadata['name']}"

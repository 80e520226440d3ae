"""Phase: what has to be in the cluster before a secret can be: the guide's fifth and sixth step.

Every object carries our label only if we made it: what somebody else made gets the fields that are needed, keeps the
rest, and is there after offboarding as it was before.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pullkeeper import manifests
from pullkeeper.credential_config import CredentialConfig
from pullkeeper.errors import ClusterError, ObjectConflict, ObjectImmutable, SecretConflict, SecretImmutable
from pullkeeper.kube import path_of
from pullkeeper.model import Target
from pullkeeper.onboarding.work import Work

NAME = "manifests"
_LABEL = {"app.kubernetes.io/managed-by": "pullkeeper"}


async def plan(work: Work) -> str:
    return await planned(work, _wanted(work))


async def do(work: Work) -> str:
    return await put_all(work, _wanted(work))


async def undo(work: Work) -> str:
    return await take_all_away(work, made(work))


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


async def planned(work: Work, wanted: Iterable[Mapping[str, Any]]) -> str:
    if not work.reachable:
        return "would hand out manifests"
    api = await work.api()
    missing = [name_of(manifest) for manifest in wanted if await api.find(path_of(manifest)) is None]
    return f"would make {', '.join(missing)}" if missing else "all there already; would be kept as they should be"


async def put_all(work: Work, wanted: Iterable[dict[str, Any]]) -> str:
    if not work.reachable:
        work.rendered.extend(wanted)
        return f"{len(work.rendered)} manifests to apply"
    new = [name_of(manifest) for manifest in wanted if await put(work, manifest)]
    return f"made {', '.join(new)}" if new else "all there already"


async def put(work: Work, manifest: Mapping[str, Any]) -> bool:
    """Apply it; with our label if it is new or ours. Whether it is new. Raises ClusterError that speaks of it."""
    api = await work.api()
    path = path_of(manifest)
    with _told_of(manifest):
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


async def take_all_away(work: Work, made: Iterable[Mapping[str, Any]]) -> str:
    """Those that were made last go first."""
    return "; ".join([await take_away(work, manifest) for manifest in reversed(list(made))]) or "nothing to take away"


async def take_away(work: Work, manifest: Mapping[str, Any]) -> str:
    """Delete what carries our label; give back the fields that we hold in what does not. Namespaces stay."""
    api = await work.api()
    path, name = path_of(manifest), name_of(manifest)
    with _told_of(manifest):
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


def name_of(manifest: Mapping[str, Any]) -> str:
    metadata = manifest["metadata"]
    space = f"{metadata['namespace']}/" if "namespace" in metadata else ""
    return f"{manifest['kind']} {space}{metadata['name']}"


@contextmanager
def _told_of(manifest: Mapping[str, Any]) -> Iterator[None]:
    """The adapter takes every object for a secret, which most are."""
    kind, metadata = manifest["kind"].lower(), manifest["metadata"]
    at = {"namespace": metadata.get("namespace", metadata["name"]), "object": f"{kind}/{metadata['name']}"}
    try:
        yield
    except SecretConflict as e:
        raise ObjectConflict(e.detail, at) from None
    except SecretImmutable as e:
        raise ObjectImmutable(e.detail, at) from None
    except ClusterError as e:
        raise e.within(**at) from None


def _is_ours(found: Mapping[str, Any]) -> bool:
    return (found["metadata"].get("labels") or {}).items() >= _LABEL.items()

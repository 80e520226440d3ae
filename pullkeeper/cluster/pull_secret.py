"""One pull secret in one cluster: written in place, never deleted, never read, never taken from somebody else.

The first apply is always without force. So what it meets tells drift from ownership at no cost: no conflict, and the
secret is ours or new; a conflict, and its metadata says whose it is.
"""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import stamina

from pullkeeper.cluster.api import Api, ObjectMetadata
from pullkeeper.cluster.ownership import LABELS, MANAGER, given_back, managers
from pullkeeper.cluster.refusals import Overtaken, OwnershipConflict
from pullkeeper.errors import ClusterError, NamespaceMissing, NamespaceTerminating, QuotaExceeded, SecretConflict
from pullkeeper.model import Hub, Target
from pullkeeper.publisher.registry import dockerconfigjson
from pullkeeper.tokens import Token


@dataclass(frozen=True, slots=True)
class Written:
    """drift: what had happened to the secret since we last wrote it, for a person to read; None if nothing."""

    uid: str
    created: bool
    drift: str | None


async def write(api: Api, target: Target, hub: Hub, token: Token, *, known_uid: str | None, adopt: bool) -> Written:
    """Put the token into the target. Raises ClusterError; SecretConflict where the secret is somebody else's."""
    where = path(target)
    body = _manifest(target, hub, token)
    try:
        seen = await api.apply(where, body)
    except OwnershipConflict as conflict:
        return await _take_back(api, where, body, conflict, known_uid=known_uid, adopt=adopt)
    return Written(seen.uid, seen.created, _drift(seen, known_uid))


def path(target: Target) -> str:
    return f"/api/v1/namespaces/{target.namespace}/secrets/{target.secret}"


async def look(api: Api, target: Target) -> ObjectMetadata | None:
    """The secret's metadata; None where there is none, or where none could be made: what is there could be changed.
    Raises ClusterError.
    """
    try:
        return await api.look(path(target), "Secret")
    except (NamespaceMissing, NamespaceTerminating, QuotaExceeded):
        return None


def is_ours(seen: ObjectMetadata) -> bool:
    """Whether Pullkeeper has a hand in the secret."""
    return MANAGER in seen.managers


async def give_back(api: Api, target: Target, seen: ObjectMetadata) -> None:
    """Leave the secret to whoever else has a hand in it, as it is, but no longer as ours. Raises ClusterError, which
    quotes nothing: a server may answer what it cannot patch with the whole object.
    """
    patch = {"metadata": given_back(seen.metadata, LABELS)}
    try:
        await api.merge(path(target), patch)
    except ClusterError as e:
        raise type(e)("the server refused the patch", e.context, retry_after=e.retry_after) from None


async def dereference(api: Api, target: Target, service_account: str) -> dict[str, Any] | None:
    """Take the name off a service account again, at the place where it was seen; whoever is quicker is not overrun.
    Only where we were the last to write its list of names, which has one holder as a whole. The account if it still
    names the secret, because somebody else was.
    """
    where = f"/api/v1/namespaces/{target.namespace}/serviceaccounts/{service_account}"
    async for attempt in _anew():
        with attempt:
            found = await api.find(where)
            listed = (found or {}).get("imagePullSecrets") or []
            entry = {"name": target.secret}
            if found is None or entry not in listed:
                return None
            if MANAGER in managers(found["metadata"], "imagePullSecrets"):
                index = f"/imagePullSecrets/{listed.index(entry)}"
                test = {"op": "test", "path": index, "value": entry}
                await api.json_patch(where, [test, {"op": "remove", "path": index}])
                return None
            return found
    raise AssertionError("stamina raises the last error")


async def reference(api: Api, target: Target, service_account: str) -> None:
    """Have the service account name the secret, so that pods need not. Raises ClusterError; NotFound where there is no
    such service account.

    `imagePullSecrets` of a service account is one atomic list for apply, so that applying it would take everybody
    else's names off: one name is appended instead.
    """
    path = f"/api/v1/namespaces/{target.namespace}/serviceaccounts/{service_account}"
    entry = {"name": target.secret}
    async for attempt in _anew():
        with attempt:
            found = await api.get(path)
            listed, version = found.get("imagePullSecrets"), found["metadata"]["resourceVersion"]
            if listed and entry in listed:
                return
            if listed:
                await api.json_patch(path, [{"op": "add", "path": "/imagePullSecrets/-", "value": entry}])
            else:
                unchanged = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
                await api.json_patch(path, [unchanged, {"op": "add", "path": "/imagePullSecrets", "value": [entry]}])


def _anew() -> AsyncIterator[stamina.Attempt]:
    """Reads again what somebody else has changed meanwhile: another target of the same service account, mostly."""
    return stamina.retry_context(on=Overtaken, attempts=5, wait_initial=0.05)


def _drift(seen: ObjectMetadata, known_uid: str | None) -> str | None:
    if known_uid is None or seen.uid == known_uid:
        return None
    return "it had been deleted" if seen.created else "it had been deleted and made anew"


async def _take_back(
    api: Api, path: str, body: dict[str, Any], conflict: OwnershipConflict, *, known_uid: str | None, adopt: bool
) -> Written:
    seen = await api.look(path, "Secret")
    ours = seen is None or seen.uid == known_uid or MANAGER in seen.managers
    if not ours and not adopt:
        raise SecretConflict(conflict.detail, conflict.context) from None
    who = ", ".join(conflict.managers)
    taken = await api.apply(path, body, force=True)
    return Written(taken.uid, taken.created, f"edited by {who}" if ours else f"adopted from {who}")


def _manifest(target: Target, hub: Hub, token: Token) -> dict[str, Any]:
    content = dockerconfigjson(hub.registries, token)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": target.secret,
            "namespace": target.namespace,
            "labels": LABELS,
            "annotations": {
                "pullkeeper.dev/issued-at": token.issued_at.isoformat(timespec="seconds"),
                "pullkeeper.dev/expires-at": token.expires_at.isoformat(timespec="seconds"),
            },
        },
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(content.encode()).decode()},
    }

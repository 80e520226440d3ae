"""One pull secret in one cluster: written in place, never deleted, never read.

This module decides whether a secret is taken back from another field manager: `_resolve_conflict`. The first apply is
always without force, so a secret that is ours or new costs one call. A conflict is followed by a look at the secret's
managers: one that is ours or adopted is applied again with force, any other raises SecretConflict.
"""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

import stamina

from pullkeeper.cluster.api import Api
from pullkeeper.cluster.lists import list_all
from pullkeeper.cluster.ownership import LABELS, MANAGER, ObjectMetadata, managers, release_patch
from pullkeeper.cluster.refusals import OwnershipConflict, PatchTestFailed
from pullkeeper.errors import (
    AdmissionDenied,
    NamespaceMissing,
    NamespaceTerminating,
    PullkeeperError,
    QuotaExceeded,
    SecretConflict,
)
from pullkeeper.model import Target
from pullkeeper.publisher.hub import Hub
from pullkeeper.publisher.registry import dockerconfigjson
from pullkeeper.retries import attempts
from pullkeeper.tokens import Token

_PATIENCE: Final = timedelta(seconds=45)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """drift: what had happened to the secret since it was last written, for the operator to read; None if nothing."""

    uid: str
    created: bool
    drift: str | None


async def write(api: Api, target: Target, hub: Hub, token: Token, *, known_uid: str | None, adopt: bool) -> WriteResult:
    """Write the token into the target.

    known_uid: the uid of the secret that was written last. adopt: take over a secret of other field managers.
    Raises ClusterError; SecretConflict if the secret is not ours and not to be adopted.
    """
    where, manifest = path(target), _manifest(target, hub, token)
    try:
        seen = await api.apply(where, manifest)
    except OwnershipConflict as conflict:
        return await _resolve_conflict(api, where, manifest, conflict, known_uid=known_uid, adopt=adopt)
    return WriteResult(seen.uid, seen.created, _drift(seen, known_uid))


async def _resolve_conflict(
    api: Api, path: str, manifest: dict[str, Any], conflict: OwnershipConflict, *, known_uid: str | None, adopt: bool
) -> WriteResult:
    """Take the secret back if it is ours, take it over if it is to be adopted, else raise SecretConflict."""
    try:
        seen = await api.look(path, "Secret")
    except AdmissionDenied:  # the policy of a cluster role shows no secret of another owner
        raise SecretConflict(conflict.detail, conflict.context) from None
    ours = seen is None or seen.uid == known_uid or is_ours(seen)
    if not ours and not adopt:
        raise SecretConflict(conflict.detail, conflict.context) from None
    others = ", ".join(conflict.managers)
    written = await api.apply(path, manifest, force=True)
    return WriteResult(written.uid, written.created, f"edited by {others}" if ours else f"adopted from {others}")


def path(target: Target) -> str:
    return f"/api/v1/namespaces/{target.namespace}/secrets/{target.secret}"


async def look(api: Api, target: Target) -> ObjectMetadata | None:
    """Read the secret's metadata. None if there is none, or if none can be created in the namespace (an existing one
    could be changed all the same). Raises ClusterError.
    """
    try:
        return await api.look(path(target), "Secret")
    except (NamespaceMissing, NamespaceTerminating, QuotaExceeded):
        return None


async def list_foreign(api: Api, name: str) -> list[str]:
    """Return the namespaces with a secret of that name that is not ours, by its metadata. Raises ClusterError."""
    found = await list_all(api, "/api/v1/secrets", fields=f"metadata.name={name}")
    return [str(metadata.get("namespace")) for metadata in found if MANAGER not in managers(metadata)]


def is_ours(seen: ObjectMetadata) -> bool:
    """Whether Pullkeeper is one of the secret's field managers."""
    return MANAGER in seen.managers


async def release(api: Api, target: Target, seen: ObjectMetadata) -> None:
    """End our ownership of the secret, and keep its content for its other managers.

    Raises PullkeeperError without the server's text, because a server may answer a failed patch with the whole object.
    """
    try:
        await api.merge_patch(path(target), {"metadata": release_patch(seen.metadata, LABELS)})
    except PullkeeperError as e:
        raise type(e)("the server refused the patch", e.context, retry_after=e.retry_after) from None


async def add_reference(api: Api, target: Target, service_account: str) -> None:
    """Add the secret to the service account's `imagePullSecrets`. Raises ClusterError; NotFound without the account.

    The list has one owner as a whole, so an apply would remove the names of others: one name is appended instead.
    """
    path = account_path(target, service_account)
    entry = {"name": target.secret}
    async for attempt in _attempts():
        with attempt:
            account = await api.get(path)
            names, version = account.get("imagePullSecrets"), account["metadata"]["resourceVersion"]
            if names and entry in names:
                return
            if names:
                await api.json_patch(path, [{"op": "add", "path": "/imagePullSecrets/-", "value": entry}])
            else:
                unchanged = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
                await api.json_patch(path, [unchanged, {"op": "add", "path": "/imagePullSecrets", "value": [entry]}])


async def remove_reference(api: Api, target: Target, service_account: str) -> dict[str, Any] | None:
    """Remove the secret from the service account's `imagePullSecrets`, if we own that list. Raises ClusterError.

    Returns the account if it still names the secret, because another manager owns the list.
    """
    path = account_path(target, service_account)
    entry = {"name": target.secret}
    async for attempt in _attempts():
        with attempt:
            account = await api.find(path)
            names = (account or {}).get("imagePullSecrets") or []
            if account is None or entry not in names:
                return None
            if MANAGER not in managers(account["metadata"], "imagePullSecrets"):
                return account
            index = f"/imagePullSecrets/{names.index(entry)}"
            unchanged = {"op": "test", "path": index, "value": entry}
            await api.json_patch(path, [unchanged, {"op": "remove", "path": index}])
            return None
    raise AssertionError("stamina raises the last error")


def account_path(target: Target, service_account: str) -> str:
    return f"/api/v1/namespaces/{target.namespace}/serviceaccounts/{service_account}"


def _attempts() -> AsyncIterator[stamina.Attempt]:
    """Read again after a change by another client: mostly another target of the same service account."""
    return attempts(
        5,
        within=_PATIENCE,
        when=lambda failure: isinstance(failure, PatchTestFailed),
        first_wait=0.05,
        longest_wait=2.0,
    )


def _drift(seen: ObjectMetadata, known_uid: str | None) -> str | None:
    if known_uid is None or seen.uid == known_uid:
        return None
    return "it had been deleted" if seen.created else "it had been deleted and created again"


def _manifest(target: Target, hub: Hub, token: Token) -> dict[str, Any]:
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
        "data": {".dockerconfigjson": _encode(hub.registries, token)},
    }


@lru_cache(maxsize=8)  # one serves every cluster of a hub
def _encode(registries: tuple[str, ...], token: Token) -> str:
    return base64.b64encode(dockerconfigjson(registries, token).encode()).decode()

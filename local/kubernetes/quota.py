"""ResourceQuota: how many objects of a kind a namespace may hold, by the quota's status, which others write."""

from collections.abc import Iterable
from typing import Any

from local.kubernetes import status
from local.kubernetes.calls import Call
from local.kubernetes.kinds import KINDS, Kind, named
from local.kubernetes.store import Store, copied

Json = dict[str, Any]
Amounts = dict[str, Any]

_BY_PLAIN_NAME = ("configmaps", "pods", "resourcequotas", "secrets", "services")


def _names_of(kind: Kind) -> tuple[str, ...]:
    counted = f"count/{kind.plural}.{kind.group}" if kind.group else f"count/{kind.plural}"
    return (counted, kind.plural) if kind.plural in _BY_PLAIN_NAME and not kind.group else (counted,)


_KNOWN = {name for kind in KINDS if kind.namespaced for name in _names_of(kind)}


def check_supported(body: Json) -> None:
    """Raises ApiError 501 for a quota on something that is not counted here, rather than not enforcing it."""
    found = {*(body.get("spec", {}).get("hard") or {}), *(body.get("status", {}).get("hard") or {})} - _KNOWN
    if found or body.get("spec", {}).get("scopes") or body.get("spec", {}).get("scopeSelector"):
        raise status.out_of_scope(f"quotas but for numbers of objects ({', '.join(sorted(found)) or 'scopes'})")


def check(store: Store, call: Call, body: Json) -> None:
    """Raises ApiError 403 when creating the object would exceed a quota."""
    for quota in _interested(store, call):
        found = quota.get("status", {})
        hard, used = found.get("hard", {}), found.get("used", {})
        names = sorted(set(_names_of(call.kind)) & set(hard))
        unknown = set(names) - set(used)
        name = quota["metadata"]["name"]
        if unknown:
            raise _refuse(call, body, f"status unknown for quota: {name}, resources: {','.join(names)}")
        over = [one for one in names if int(used[one]) + 1 > int(hard[one])]
        if over:
            asked, held, limit = _shown(over, {}), _shown(over, used), _shown(over, hard)
            raise _refuse(call, body, f"exceeded quota: {name}, requested: {asked}, used: {held}, limited: {limit}")


def count(store: Store, call: Call) -> None:
    """Writes what has been created into the quotas' status."""
    for quota in [copied(one) for one in _interested(store, call)]:
        used = quota["status"]["used"]
        used |= {name: str(int(used[name]) + 1) for name in _names_of(call.kind) if name in used}
        store.put(named("resourcequotas"), quota)


def _interested(store: Store, call: Call) -> Iterable[Json]:
    if not call.kind.namespaced:
        return []
    quotas = sorted(store.view(named("resourcequotas"), call.namespace), key=lambda one: str(one["metadata"]["name"]))
    names = set(_names_of(call.kind))
    return [quota for quota in quotas if names & set(quota.get("status", {}).get("hard", {}))]


def _refuse(call: Call, body: Json, why: str) -> status.ApiError:
    return status.forbidden(call.kind.plural, body["metadata"]["name"], why, call.kind.group)


def _shown(names: list[str], amounts: Amounts) -> str:
    return ",".join(f"{name}={amounts.get(name, 1)}" for name in names)

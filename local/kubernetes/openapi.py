"""As much of OpenAPI v3 as kubectl asks before it applies: that PATCH takes `fieldValidation` and `dryRun`.

It then leaves the validation to the server, which does it anyway. There are no schemas in it, so `kubectl explain` has
nothing to say.
"""

from typing import Any

from local.kubernetes import kinds
from local.kubernetes.kinds import Kind

Json = dict[str, Any]

_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation", "force")


def lookup(path: str) -> Json | None:
    """The document at a path under /openapi, or None."""
    if path.rstrip("/") == "/openapi/v3":
        return {"paths": {where: {"serverRelativeURL": f"/openapi/v3/{where}"} for where in _places()}}
    group = _places().get(path.removeprefix("/openapi/v3/"))
    if group is None:
        return None
    described = {where: item for kind in kinds.of_group(group) for where, item in _paths(kind)}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.37.2"}, "paths": described}


def _places() -> dict[str, str]:
    return {"api/v1": ""} | {f"apis/{group}/v1": group for group in kinds.groups()}


def _paths(kind: Kind) -> list[tuple[str, Json]]:
    root = f"/apis/{kind.group}/v1" if kind.group else "/api/v1"
    where = f"{root}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
    about = {"group": kind.group, "version": "v1", "kind": kind.name}
    patch = {
        "operationId": f"patch{kind.name}",
        "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in _PARAMETERS],
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": about,
    }
    return [(f"{where}/{{name}}", {"patch": patch})]

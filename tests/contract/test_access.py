"""Who gets in, and what the smallest role allows."""

from datetime import timedelta
from typing import Any

import pytest

from local.azure.entra import Entra, Identity
from local.clock import Clock
from local.kubernetes.apiserver import AKS_SERVER_APPLICATION
from tests.contract.cluster import Cluster
from tests.contract.conversation import (
    METADATA_ONLY,
    Caller,
    Json,
    bare,
    failure,
    pull_secret,
)

NAMED = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["ar-pull-secret"]}
UNAUTHORIZED = failure(401, "Unauthorized", "Unauthorized")
SELF_REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
ACCESS_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def forbidden(user: str, verb: str, namespace: str, name: str | None = "ar-pull-secret") -> Json:
    what = "secrets" if name is None else f'secrets "{name}"'
    details = {"kind": "secrets"} if name is None else {"name": name, "kind": "secrets"}
    return failure(
        403,
        "Forbidden",
        f'{what} is forbidden: User "{user}" cannot {verb} resource "secrets" in API group "" in the namespace '
        f'"{namespace}"',
        **details,
    )


@pytest.mark.parametrize(
    ("method", "path", "verb", "name"),
    [
        ("GET", "/ar-pull-secret", "get", "ar-pull-secret"),
        ("DELETE", "/ar-pull-secret", "delete", "ar-pull-secret"),
        ("GET", "", "list", None),
        ("GET", "?watch=true", "watch", None),
        ("DELETE", "", "deletecollection", None),
    ],
)
async def test_nothing_is_allowed_without_a_role(
    app: Caller,
    identity: Identity,
    namespace: str,
    secrets: str,
    *,
    method: str,
    path: str,
    verb: str,
    name: str | None,
) -> None:
    answer = await app.send(method, secrets + path)

    assert answer.status == 403
    assert answer.body == forbidden(identity.principal_id, verb, namespace, name)


async def test_writing_is_not_allowed_without_a_role(
    app: Caller, identity: Identity, namespace: str, secrets: str
) -> None:
    applied = await app.apply(f"{secrets}/ar-pull-secret", pull_secret())
    posted = await app.post(secrets, pull_secret())
    put = await app.put(f"{secrets}/ar-pull-secret", pull_secret())

    assert (applied.status, posted.status, put.status) == (403, 403, 403)
    assert applied.body == forbidden(identity.principal_id, "patch", namespace)
    assert posted.body == forbidden(identity.principal_id, "create", namespace, name=None)
    assert put.body == forbidden(identity.principal_id, "update", namespace)


async def test_listing_the_whole_cluster_is_not_allowed_without_a_role(app: Caller, identity: Identity) -> None:
    answer = await app.get("/api/v1/secrets")

    assert answer.status == 403
    assert answer.body == failure(
        403,
        "Forbidden",
        f'secrets is forbidden: User "{identity.principal_id}" cannot list resource "secrets" in API group "" at '
        "the cluster scope",
        kind="secrets",
    )


async def test_another_group_is_named(app: Caller, identity: Identity, namespace: str) -> None:
    answer = await app.get(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/x")

    assert answer.status == 403
    assert answer.body == failure(
        403,
        "Forbidden",
        f'roles.rbac.authorization.k8s.io "x" is forbidden: User "{identity.principal_id}" cannot get resource '
        f'"roles" in API group "rbac.authorization.k8s.io" in the namespace "{namespace}"',
        name="x",
        group="rbac.authorization.k8s.io",
        kind="roles",
    )


async def test_patch_on_one_name_updates_it_and_nothing_else(
    cluster: Cluster, app: Caller, identity: Identity, namespace: str, secrets: str
) -> None:
    await cluster.grant(namespace, identity, {**NAMED, "verbs": ["patch"]})
    await cluster.human.apply(f"{secrets}/ar-pull-secret", pull_secret(token="one"))

    updated = await app.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"))
    looked = await app.apply(
        f"{secrets}/ar-pull-secret", bare(), manager="pullkeeper-diagnosis", dryRun="All", accept=METADATA_ONLY
    )
    other = await app.apply(f"{secrets}/other", pull_secret("other"))
    read = await app.get(f"{secrets}/ar-pull-secret")
    listed = await app.get(secrets)

    assert (updated.status, looked.status) == (200, 200)
    assert (other.status, read.status, listed.status) == (403, 403, 403)
    assert other.body == forbidden(identity.principal_id, "patch", namespace, "other")
    assert read.body == forbidden(identity.principal_id, "get", namespace)
    assert listed.body == forbidden(identity.principal_id, "list", namespace, name=None)


async def test_apply_that_would_create_needs_create_as_well(
    cluster: Cluster, app: Caller, identity: Identity, namespace: str, secrets: str
) -> None:
    await cluster.grant(namespace, identity, {**NAMED, "verbs": ["patch"]})
    answer = await app.apply(f"{secrets}/ar-pull-secret", pull_secret())
    looked = await app.apply(f"{secrets}/ar-pull-secret", bare(), dryRun="All")

    assert (answer.status, looked.status) == (403, 403)
    assert answer.body == forbidden(identity.principal_id, "create", namespace)
    assert looked.body == forbidden(identity.principal_id, "create", namespace)


async def test_create_can_be_limited_to_a_name_under_apply(
    cluster: Cluster, app: Caller, identity: Identity, namespace: str, secrets: str
) -> None:
    await cluster.grant(namespace, identity, {**NAMED, "verbs": ["patch", "create"]})
    other = await app.apply(f"{secrets}/other", pull_secret("other"))
    posted = await app.post(secrets, pull_secret())
    created = await app.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert created.status == 201
    assert other.status == 403
    assert other.body == forbidden(identity.principal_id, "patch", namespace, "other")
    assert posted.status == 403
    assert posted.body == forbidden(identity.principal_id, "create", namespace, name=None)


async def test_nobody_grants_more_than_they_have(
    cluster: Cluster, app: Caller, identity: Identity, namespace: str
) -> None:
    rbac = {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["patch", "create"]}
    await cluster.grant(namespace, identity, rbac)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "r"},
        "rules": [{**NAMED, "verbs": ["patch", "create"]}],
    }
    answer = await app.apply(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/r", role)

    assert answer.status == 403
    assert answer.body == failure(
        403,
        "Forbidden",
        f'roles.rbac.authorization.k8s.io "r" is forbidden: user "{identity.principal_id}" '
        '(groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n'
        '{APIGroups:[""], Resources:["secrets"], ResourceNames:["ar-pull-secret"], Verbs:["patch" "create"]}',
        name="r",
        group="rbac.authorization.k8s.io",
        kind="roles",
    )


async def test_a_binding_keeps_its_role(cluster: Cluster, identity: Identity, namespace: str, minor: int) -> None:
    await cluster.grant(namespace, identity, {**NAMED, "verbs": ["patch"]})
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "refresher"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "another"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": identity.principal_id}],
    }
    answer = await cluster.human.apply(
        f"/apis/{group}/v1/namespaces/{namespace}/rolebindings/refresher", binding, force="true"
    )

    assert answer.status == 422
    assert answer.body["message"] == (
        'RoleBinding.rbac.authorization.k8s.io "refresher" is invalid: roleRef: Invalid value: '
        '{"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"another"}: '
        + ("field is immutable" if minor >= 37 else "cannot change roleRef")
    )


async def test_without_a_token_one_is_anonymous(cluster: Cluster, namespace: str, secrets: str) -> None:
    answer = await cluster.stranger.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert answer.status == 403
    assert answer.body == forbidden("system:anonymous", "patch", namespace)


async def test_a_token_for_somebody_else_is_refused(
    cluster: Cluster, entra: Entra, identity: Identity, secrets: str
) -> None:
    caller = cluster.bearer(entra.token(identity, "https://management.azure.com/"))
    answer = await caller.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert answer.status == 401
    assert answer.body == UNAUTHORIZED


async def test_an_expired_token_is_refused(cluster: Cluster, entra: Entra, identity: Identity, secrets: str) -> None:
    caller = cluster.bearer(entra.token(identity, AKS_SERVER_APPLICATION, lifetime=timedelta(seconds=-5)))
    answer = await caller.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert answer.status == 401
    assert answer.body == UNAUTHORIZED


async def test_another_tenant_is_refused(cluster: Cluster, identity: Identity, secrets: str) -> None:
    stranger = Entra(Clock())
    caller = cluster.bearer(stranger.token(identity, AKS_SERVER_APPLICATION))
    answer = await caller.get(secrets)

    assert answer.status == 401
    assert answer.body == UNAUTHORIZED


@pytest.mark.parametrize("token", ["garbage", "a.b.c"])
async def test_what_is_no_token_is_refused(cluster: Cluster, secrets: str, token: str) -> None:
    answer = await cluster.bearer(token).get(secrets)

    assert answer.status == 401
    assert answer.body == UNAUTHORIZED


async def test_one_can_ask_who_one_is(app: Caller, identity: Identity) -> None:
    answer = await app.post(SELF_REVIEW, {})

    assert answer.status == 201
    body = answer.body
    body["status"]["userInfo"].pop("extra", None)  # the token's id, where it has one
    assert body["kind"] == "SelfSubjectReview"
    assert body["apiVersion"] == "authentication.k8s.io/v1"
    assert body["status"] == {"userInfo": {"username": identity.principal_id, "groups": ["system:authenticated"]}}


async def test_a_client_certificate_says_who_one_is(human: Caller) -> None:
    user = (await human.post(SELF_REVIEW, {})).body["status"]["userInfo"]

    assert user["username"] == "masterclient"
    assert user["groups"] == ["system:masters", "system:authenticated"]


@pytest.mark.parametrize(("verb", "allowed"), [("patch", True), ("get", False)])
async def test_one_can_ask_what_one_may(
    cluster: Cluster, app: Caller, identity: Identity, namespace: str, verb: str, *, allowed: bool
) -> None:
    await cluster.grant(namespace, identity, {**NAMED, "verbs": ["patch"]})
    attributes = {"namespace": namespace, "verb": verb, "resource": "secrets", "name": "ar-pull-secret"}
    answer = await app.post(ACCESS_REVIEW, {"spec": {"resourceAttributes": attributes}})

    assert answer.status == 201
    expected: dict[str, Any] = {"allowed": allowed}
    if allowed:
        expected["reason"] = (
            f'RBAC: allowed by RoleBinding "refresher/{namespace}" of Role "refresher" to User '
            f'"{identity.principal_id}"'
        )
    assert answer.body["spec"] == {"resourceAttributes": attributes}
    assert answer.body["status"] == expected


async def test_everybody_signed_in_may_ask_for_the_version(app: Caller) -> None:
    answer = await app.get("/version")

    assert answer.status == 200
    assert answer.body["major"] == "1"
    assert answer.body["gitVersion"].startswith("v1.")

"""What an API server refuses, one function a case: it brings the refusal about and gives what its text quotes.

Those of PLAYED are answered by the stand-in too; the others are the real server's alone, and are faults elsewhere.
"""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from local.azure.entra import Identity
from local.kubernetes.apiserver import Etcd
from local.serving import Authority, Server
from tests.contract.cluster import Cluster, one_seat
from tests.contract.conversation import APPLY, JSON_PATCH, MERGE, Answer, Caller, Json, bare, pull_secret, until

RBAC: Final = "rbac.authorization.k8s.io"
REGISTRATION: Final = "/apis/admissionregistration.k8s.io/v1"
NAME: Final = "ar-pull-secret"
STRANGE_UID: Final = "11111111-1111-4111-8111-111111111111"
Quoted = Mapping[str, str]
"""By placeholder: the text that stands for it in this answer."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A cluster with a namespace of the case's own, the administrator, and an identity without rights."""

    cluster: Cluster
    identity: Identity
    namespace: str
    etcd: Etcd | None
    """Of the real server; None at the stand-in."""

    @property
    def admin(self) -> Caller:
        return self.cluster.admin

    @property
    def app(self) -> Caller:
        return self.cluster.caller(self.identity)

    @property
    def secrets(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets"

    @property
    def secret(self) -> str:
        return f"{self.secrets}/{NAME}"

    @property
    def jobs(self) -> str:
        """A kind in a group, so that its placeholders are distinct."""
        return f"/apis/batch/v1/namespaces/{self.namespace}/cronjobs"

    @property
    def job(self) -> str:
        return f"{self.jobs}/{NAME}"


Case = Callable[[Stage], Awaitable[tuple[Answer, Quoted]]]
PLAYED: Final[dict[str, Case]] = {}
REAL_ONLY: Final[dict[str, Case]] = {}
SECRET: Final = {"name": NAME}
"""For refusals that are about secrets alone."""


def played(case: Case) -> Case:
    return PLAYED.setdefault(_name(case), case)


def real_only(case: Case) -> Case:
    return REAL_ONLY.setdefault(_name(case), case)


def _name(case: Case) -> str:
    return str(getattr(case, "__name__", "")).replace("_", "-")


def quoted(stage: Stage, plural: str, kind: str, group: str, verb: str = "", **more: str) -> Quoted:
    """What a refusal about an object of this kind may quote."""
    return {
        "user": stage.identity.principal_id,
        "namespace": stage.namespace,
        "name": NAME,
        "qualified": f"{plural}.{group}",
        "qualified_kind": f"{kind}.{group}",
        "resource": plural,
        "kind": kind,
        "group": group,
        "verb": verb,
        **more,
    }


def of_job(stage: Stage, verb: str = "", **more: str) -> Quoted:
    return quoted(stage, "cronjobs", "CronJob", "batch", verb, **more)


def a_job(**metadata: Any) -> Json:
    pod = {"restartPolicy": "Never", "containers": [{"name": "refresh", "image": "google/cloud-sdk"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": NAME, **metadata},
        "spec": {"schedule": "*/30 * * * *", "jobTemplate": {"spec": {"template": {"spec": pod}}}},
    }


@played
async def unauthorized(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.cluster.bearer("a.b.c").get(stage.secret), {}


@played
async def forbidden(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.app.get(stage.job), of_job(stage, "get")


@played
async def forbidden_unnamed(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.app.get(stage.jobs), of_job(stage, "list")


@played
async def forbidden_in_cluster(stage: Stage) -> tuple[Answer, Quoted]:
    answer = await stage.app.get(f"/apis/{RBAC}/v1/clusterroles/{NAME}")
    return answer, quoted(stage, "clusterroles", "ClusterRole", RBAC, "get")


@played
async def forbidden_unnamed_in_cluster(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.app.get("/apis/batch/v1/cronjobs"), of_job(stage, "list")


@played
async def not_found(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.admin.get(stage.job), of_job(stage)


@played
async def namespace_missing(stage: Stage) -> tuple[Answer, Quoted]:
    answer = await stage.admin.apply("/api/v1/namespaces/gone/secrets/x", pull_secret("x"))
    return answer, {"namespace": "gone"}


@played
async def namespace_terminating(stage: Stage) -> tuple[Answer, Quoted]:
    await stage.admin.delete(f"/api/v1/namespaces/{stage.namespace}")
    return await stage.admin.apply(stage.job, a_job()), of_job(stage)


@played
async def already_exists(stage: Stage) -> tuple[Answer, Quoted]:
    await stage.admin.post(stage.jobs, a_job())
    return await stage.admin.post(stage.jobs, a_job()), of_job(stage)


@played
async def modified(stage: Stage) -> tuple[Answer, Quoted]:
    await stage.admin.post(stage.jobs, a_job())
    late = {"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}}
    return await stage.admin.send("PATCH", stage.job, late, content_type=MERGE), of_job(stage)


@played
async def apply_conflict(stage: Stage) -> tuple[Answer, Quoted]:
    await stage.admin.post(stage.secrets, pull_secret(token="theirs"), fieldManager="kubectl-create")
    answer = await stage.admin.apply(stage.secret, pull_secret(token="ours"))
    return answer, {"writer": '"kubectl-create" using v1', "path": ".data..dockerconfigjson"}


@played
async def apply_uid_of_nothing(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.admin.apply(stage.job, a_job(uid=STRANGE_UID)), of_job(stage, uid=STRANGE_UID)


@played
async def delete_uid(stage: Stage) -> tuple[Answer, Quoted]:
    made = await stage.admin.post(stage.jobs, a_job())
    answer = await stage.admin.delete(stage.job, {"preconditions": {"uid": STRANGE_UID}})
    return answer, of_job(stage, uid=STRANGE_UID, other_uid=made.uid)


@played
async def deleted(stage: Stage) -> tuple[Answer, Quoted]:
    made = await stage.admin.post(stage.jobs, a_job())
    return await stage.admin.delete(stage.job), of_job(stage, uid=made.uid)


@played
async def immutable_uid(stage: Stage) -> tuple[Answer, Quoted]:
    await stage.admin.apply(stage.job, a_job())
    return await stage.admin.apply(stage.job, a_job(uid=STRANGE_UID)), of_job(stage, uid=STRANGE_UID)


@played
async def immutable_type(stage: Stage) -> tuple[Answer, Quoted]:
    await stage.admin.apply(stage.secret, pull_secret())
    return await stage.admin.apply(stage.secret, pull_secret() | {"type": "Opaque"}), {**SECRET, "value": "Opaque"}


@played
async def immutable_role_ref(stage: Stage) -> tuple[Answer, Quoted]:
    path = f"/apis/{RBAC}/v1/namespaces/{stage.namespace}/rolebindings/{NAME}"

    def binding(role: str) -> Json:
        reference = {"apiGroup": RBAC, "kind": "Role", "name": role}
        return {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": {"name": NAME}, "roleRef": reference}

    await stage.admin.apply(path, binding("one"))
    value = f'{{"APIGroup":"{RBAC}","Kind":"Role","Name":"other"}}'
    answer = await stage.admin.apply(path, binding("other"))
    return answer, {**quoted(stage, "rolebindings", "RoleBinding", RBAC), "value": value}


@played
async def immutable_selector(stage: Stage) -> tuple[Answer, Quoted]:
    path = f"/apis/apps/v1/namespaces/{stage.namespace}/deployments/{NAME}"

    def deployment(app: str) -> Json:
        labels = {"app": app}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app"}]}}
        spec = {"selector": {"matchLabels": labels}, "template": template}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME}, "spec": spec}

    await stage.admin.apply(path, deployment("one"))
    answer = await stage.admin.apply(path, deployment("other"), force="true")
    return answer, {**quoted(stage, "deployments", "Deployment", "apps"), "value": '{"matchLabels":{"app":"other"}}'}


@played
async def json_patch_unfit(stage: Stage) -> tuple[Answer, Quoted]:
    await stage.admin.post(stage.jobs, a_job())
    late = [{"op": "test", "path": "/metadata/resourceVersion", "value": "1"}]
    return await stage.admin.send("PATCH", stage.job, late, content_type=JSON_PATCH), {}


# From here on, the real server alone.


@real_only
async def immutable_data(stage: Stage) -> tuple[Answer, Quoted]:
    frozen = {"immutable": True}
    await stage.admin.apply(stage.secret, pull_secret() | frozen)
    return await stage.admin.apply(stage.secret, pull_secret(token="two") | frozen), SECRET


@real_only
async def content_missing(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.admin.apply(stage.secret, pull_secret() | {"data": {}}), SECRET


@real_only
async def content_no_object(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.admin.apply(stage.secret, pull_secret() | {"data": {".dockerconfigjson": "W10="}}), SECRET


@real_only
async def content_too_large(stage: Stage) -> tuple[Answer, Quoted]:
    large = base64.b64encode(b"x" * (1024 * 1024 + 1)).decode()
    return await stage.admin.apply(stage.secret, bare() | {"data": {"x": large}}), SECRET


@real_only
async def request_too_large(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.admin.apply(stage.secret, bare() | {"data": {"x": "e" * 3 * 1024 * 1024}}), {}


@real_only
async def no_base64(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.admin.apply(stage.secret, pull_secret() | {"data": {".dockerconfigjson": "%%%"}}), SECRET


@real_only
async def unknown_field(stage: Stage) -> tuple[Answer, Quoted]:
    answer = await stage.admin.apply(stage.secret, pull_secret() | {"nonsense": {}}, fieldValidation="Strict")
    return answer, SECRET


@real_only
async def managed_fields(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.admin.apply(stage.secret, pull_secret(managedFields=[])), {}


@real_only
async def name_mismatch(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.admin.apply(stage.secret, pull_secret("x")), SECRET


@real_only
async def no_manager(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.admin.send("PATCH", stage.secret, pull_secret(), content_type=APPLY), {}


@real_only
async def no_such_patch(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.admin.send("PATCH", stage.secret, pull_secret()), {}


@real_only
async def no_such_resource(stage: Stage) -> tuple[Answer, Quoted]:
    return await stage.admin.get("/api/v1/nonsense"), {}


@real_only
async def throttled(stage: Stage) -> tuple[Answer, Quoted]:
    async with one_seat(stage.cluster, stage.identity):
        return await stage.app.apply(stage.secret, pull_secret()), {}


@real_only
async def timed_out(stage: Stage) -> tuple[Answer, Quoted]:
    """The store does not answer."""
    if stage.etcd is None:
        raise AssertionError("a real server has an etcd")
    with stage.etcd.suspended():
        return await stage.admin.apply(stage.secret, pull_secret(), timeout="1s"), {}


@real_only
async def rights_beyond_own(stage: Stage) -> tuple[Answer, Quoted]:
    """A role with more than its writer may do."""
    rule = {"apiGroups": [RBAC], "resources": ["roles"], "verbs": ["create", "patch"]}
    await stage.cluster.grant(stage.namespace, stage.identity, rule)
    wide = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["patch"]}
    role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": NAME}, "rules": [wide]}
    answer = await stage.app.apply(f"/apis/{RBAC}/v1/namespaces/{stage.namespace}/roles/{NAME}", role)
    return answer, {"user": stage.identity.principal_id, **SECRET}


@real_only
async def quota(stage: Stage) -> tuple[Answer, Quoted]:
    quotas, hard = f"/api/v1/namespaces/{stage.namespace}/resourcequotas", {"secrets": "5"}
    await stage.admin.post(quotas, {"metadata": {"name": "few"}, "spec": {"hard": hard}})
    used = {"status": {"hard": hard, "used": hard}}
    await stage.admin.send("PATCH", f"{quotas}/few/status", used, content_type=MERGE)
    return await when_refused(stage), SECRET


@real_only
async def policy_denies(stage: Stage) -> tuple[Answer, Quoted]:
    return await _by_policy(stage, {"message": "no pull secrets here"})


@real_only
async def policy_forbids(stage: Stage) -> tuple[Answer, Quoted]:
    return await _by_policy(stage, {"message": "no pull secrets here", "reason": "Forbidden"})


@real_only
async def policy_about_immutable(stage: Stage) -> tuple[Answer, Quoted]:
    """A message that has the words of another refusal."""
    return await _by_policy(stage, {"message": "secrets are immutable here"})


@real_only
async def webhook_denies(stage: Stage) -> tuple[Answer, Quoted]:
    status = {"code": 403, "reason": "Forbidden", "message": '[owner-label] you must provide labels: {"owner"}'}
    async with webhook(stage, {"allowed": False, "status": status}):
        return await when_refused(stage), {}


@real_only
async def webhook_denies_with_401(stage: Stage) -> tuple[Answer, Quoted]:
    """Which is no matter of our token."""
    async with webhook(stage, {"allowed": False, "status": {"code": 401, "reason": "Unauthorized", "message": "no"}}):
        return await when_refused(stage), {}


@real_only
async def webhook_denies_without_explanation(stage: Stage) -> tuple[Answer, Quoted]:
    async with webhook(stage, {"allowed": False}):
        return await when_refused(stage), {}


@real_only
async def webhook_down(stage: Stage) -> tuple[Answer, Quoted]:
    async with webhook(stage, {"allowed": False}) as server:
        await when_refused(stage)
        await server.stop()
        return await stage.admin.apply(stage.secret, pull_secret()), {"address": server.host}


async def when_refused(stage: Stage) -> Answer:
    """The first answer that is no 201: the server takes a moment to see what was just configured."""
    return await until(
        lambda: stage.admin.apply(stage.secret, pull_secret(), dryRun="All"), lambda answer: answer.status != 201
    )


_SECRETS: Final = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}


def _only_in(namespace: str) -> Json:
    return {"matchLabels": {"kubernetes.io/metadata.name": namespace}}


async def _by_policy(stage: Stage, validation: Json) -> tuple[Answer, Quoted]:
    policy, binding = f"policy-{stage.namespace}", f"binding-{stage.namespace}"
    checks = {"matchConstraints": {"resourceRules": [_SECRETS]}, "validations": [{"expression": "false", **validation}]}
    where = {"namespaceSelector": _only_in(stage.namespace)}
    bound = {"policyName": policy, "validationActions": ["Deny"], "matchResources": where}
    for plural, name, spec in (("policies", policy, checks), ("policybindings", binding, bound)):
        body = {"metadata": {"name": name}, "spec": spec}
        made = await stage.admin.post(f"{REGISTRATION}/validatingadmission{plural}", body)
        assert made.status == 201, made.text
    return await when_refused(stage), {**SECRET, "namespace": stage.namespace}


@contextlib.asynccontextmanager
async def webhook(stage: Stage, verdict: Json, asked: list[Json] | None = None) -> AsyncIterator[Server]:
    """A validating webhook for the stage's namespace, which answers with this verdict. asked: gets its requests."""

    async def review(request: web.Request) -> web.Response:
        question = (await request.json())["request"]
        if asked is not None:
            asked.append(question)
        response = {"uid": question["uid"], **verdict}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})

    authority, application = Authority(), web.Application()
    application.router.add_post("/validate", review)
    server = Server(application, authority=authority)
    await server.start()
    ca = base64.b64encode(authority.pem.encode()).decode()
    webhook = {
        "name": "gate.example.com",
        "clientConfig": {"url": f"{server.url}/validate", "caBundle": ca},
        "rules": [_SECRETS],
        "namespaceSelector": _only_in(stage.namespace),
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 5,
    }
    body = {"metadata": {"name": f"gate-{stage.namespace}"}, "webhooks": [webhook]}
    assert (await stage.admin.post(f"{REGISTRATION}/validatingwebhookconfigurations", body)).status == 201
    try:
        yield server
    finally:
        await server.stop()
        await asyncio.sleep(0)

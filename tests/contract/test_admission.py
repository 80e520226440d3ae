"""What refuses a write although RBAC allows it: quota, webhooks, policies."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from aiohttp import web

from local.serving import Authority, Server
from tests.contract.conversation import MERGE, Answer, Caller, Json, auths, failure, pull_secret, until

REGISTRATION = "/apis/admissionregistration.k8s.io/v1"
SECRETS = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["CREATE", "UPDATE"],
    "resources": ["secrets"],
}


def only_in(namespace: str) -> Json:
    return {"matchLabels": {"kubernetes.io/metadata.name": namespace}}


async def when_refused(human: Caller, secrets: str) -> Answer:
    """The first answer that is no 201: the server takes a moment to see what was just configured."""
    return await until(
        lambda: human.apply(f"{secrets}/ar-pull-secret", pull_secret(), dryRun="All"),
        lambda answer: answer.status != 201,
    )


async def test_quota(human: Caller, namespace: str, secrets: str) -> None:
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    hard = {"count/secrets": "1"}
    created = await human.post(quotas, {"metadata": {"name": "few"}, "spec": {"hard": hard}})
    used = {"status": {"hard": hard, "used": {"count/secrets": "1"}}}
    counted = await human.send("PATCH", f"{quotas}/few/status", used, content_type=MERGE)
    answer = await when_refused(human, secrets)

    assert (created.status, counted.status) == (201, 200)
    assert answer.status == 403
    assert answer.body == failure(
        403,
        "Forbidden",
        'secrets "ar-pull-secret" is forbidden: exceeded quota: few, requested: count/secrets=1, used: '
        "count/secrets=1, limited: count/secrets=1",
        name="ar-pull-secret",
        kind="secrets",
    )


async def test_quota_does_not_hinder_an_update(human: Caller, namespace: str, secrets: str) -> None:
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    hard = {"count/secrets": "1"}
    await human.apply(f"{secrets}/kept", pull_secret("kept", token="one"))
    await human.post(quotas, {"metadata": {"name": "few"}, "spec": {"hard": hard}})
    used = {"status": {"hard": hard, "used": {"count/secrets": "1"}}}
    await human.send("PATCH", f"{quotas}/few/status", used, content_type=MERGE)
    await when_refused(human, secrets)
    answer = await human.apply(f"{secrets}/kept", pull_secret("kept", token="two"))

    assert answer.status == 200
    assert answer.body["data"] == {".dockerconfigjson": auths("two")}


async def test_an_admission_policy_denies(human: Caller, namespace: str, secrets: str) -> None:
    policy = {
        "metadata": {"name": f"policy-{namespace}"},
        "spec": {
            "matchConstraints": {"resourceRules": [SECRETS]},
            "validations": [{"expression": "false", "message": "no pull secrets here"}],
        },
    }
    binding = {
        "metadata": {"name": f"binding-{namespace}"},
        "spec": {
            "policyName": f"policy-{namespace}",
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": only_in(namespace)},
        },
    }
    assert (await human.post(f"{REGISTRATION}/validatingadmissionpolicies", policy)).status == 201
    assert (await human.post(f"{REGISTRATION}/validatingadmissionpolicybindings", binding)).status == 201
    answer = await when_refused(human, secrets)

    denied = (
        f"ValidatingAdmissionPolicy 'policy-{namespace}' with binding 'binding-{namespace}' denied request: "
        "no pull secrets here"
    )
    assert answer.status == 422
    assert answer.body == failure(
        422,
        "Invalid",
        f'secrets "ar-pull-secret" is forbidden: {denied}',
        name="ar-pull-secret",
        kind="secrets",
        causes=[{"message": denied}],
    )


@dataclass(slots=True)
class Gate:
    """A validating webhook for one namespace, which answers `verdict`, and what it was asked."""

    name: str
    address: str
    server: Server
    verdict: Json
    asked: list[Json] = field(default_factory=list)

    async def review(self, request: web.Request) -> web.Response:
        review = await request.json()
        self.asked.append(review["request"])
        response = {"uid": review["request"]["uid"], **self.verdict}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})


@pytest_asyncio.fixture(loop_scope="session")
async def gate(human: Caller, namespace: str) -> AsyncIterator[Gate]:
    authority, application = Authority(), web.Application()
    server = Server(application, authority=authority)
    gate = Gate("gate.example.com", "", server, {"allowed": False, "status": {"message": "not now"}})
    application.router.add_post("/validate", gate.review)
    await server.start()
    gate.address = f"{server.url}/validate"
    webhook = {
        "name": gate.name,
        "clientConfig": {
            "url": gate.address,
            "caBundle": base64.b64encode(authority.pem.encode()).decode(),
        },
        "rules": [SECRETS],
        "namespaceSelector": only_in(namespace),
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 5,
    }
    configuration = {"metadata": {"name": f"gate-{namespace}"}, "webhooks": [webhook]}
    assert (await human.post(f"{REGISTRATION}/validatingwebhookconfigurations", configuration)).status == 201
    yield gate
    await server.stop()


async def test_a_webhook_denies(human: Caller, gate: Gate, secrets: str) -> None:
    status = {"code": 403, "reason": "Forbidden", "message": "[pull-secrets] not from here"}
    gate.verdict = {"allowed": False, "status": status}
    answer = await when_refused(human, secrets)

    assert answer.status == 403
    assert answer.body == failure(
        403, "Forbidden", f'admission webhook "{gate.name}" denied the request: [pull-secrets] not from here'
    )


@pytest.mark.parametrize(
    ("verdict", "code", "message"),
    [
        ({}, 400, "denied the request without explanation"),
        ({"status": {"message": "not now"}}, 400, "denied the request: not now"),
        ({"status": {"code": 418, "message": "teapot"}}, 418, "denied the request: teapot"),
    ],
)
async def test_a_webhook_denies_as_it_likes(
    human: Caller, gate: Gate, secrets: str, *, verdict: Json, code: int, message: str
) -> None:
    gate.verdict = {"allowed": False, **verdict}
    answer = await when_refused(human, secrets)

    assert answer.status == code
    assert answer.body == failure(code, None, f'admission webhook "{gate.name}" {message}')


async def test_a_webhook_warns(human: Caller, gate: Gate, secrets: str) -> None:
    await when_refused(human, secrets)
    gate.verdict = {"allowed": True, "warnings": ["mind the gap"]}
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert answer.status == 201
    assert answer.headers["warning"] == '299 - "mind the gap"'


async def test_a_webhook_is_shown_the_whole_secret(human: Caller, gate: Gate, namespace: str, secrets: str) -> None:
    """Which is to say: whoever runs an admission webhook on secrets has the token."""
    await when_refused(human, secrets)
    asked = gate.asked[-1]

    assert asked["operation"] == "CREATE"
    assert asked["dryRun"] is True
    assert (asked["namespace"], asked["name"]) == (namespace, "ar-pull-secret")
    assert asked["resource"] == {"group": "", "version": "v1", "resource": "secrets"}
    assert asked["userInfo"]["username"] == "masterclient"
    assert asked["object"]["data"] == {".dockerconfigjson": auths("one")}


async def test_a_webhook_is_down(human: Caller, gate: Gate, secrets: str) -> None:
    await when_refused(human, secrets)
    await gate.server.stop()
    answer = await human.apply(f"{secrets}/ar-pull-secret", pull_secret())

    host = gate.address.removeprefix("https://").removesuffix("/validate")
    failed = (
        f'failed calling webhook "{gate.name}": failed to call webhook: Post "{gate.address}?timeout=5s": dial tcp '
        f"{host}: connect: connection refused"
    )
    assert answer.status == 500
    assert answer.body == failure(
        500, "InternalError", f"Internal error occurred: {failed}", causes=[{"message": failed}]
    )

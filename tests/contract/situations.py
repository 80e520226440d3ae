"""What a real server has to be in for some refusals: no seat left, a silent store, an admission webhook."""

import base64
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiohttp import web

from local.kubernetes.apiserver import Etcd
from local.serving import Authority, Server
from tests.contract.conversation import Json, until
from tests.contract.script import Stage

_SECRETS: Final = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}


@contextlib.asynccontextmanager
async def situation(name: str | Json | None, stage: Stage, etcd: Etcd) -> AsyncIterator[Mapping[str, str]]:
    """Bring about what `while` names; an object is the verdict of a webhook. Gives what an answer quotes of it."""
    async with contextlib.AsyncExitStack() as stack:
        quotable = {}
        if name == "the identity's one seat is taken":
            await stack.enter_async_context(_one_seat(stage))
        elif name == "the store does not answer":
            stack.enter_context(etcd.suspend())
        elif name == "the webhook is down":
            server = await stack.enter_async_context(_webhook(stage, {}))
            await server.stop()
            quotable = {"address": server.host}
        elif isinstance(name, dict):
            await stack.enter_async_context(_webhook(stage, name))
        yield quotable


@contextlib.asynccontextmanager
async def _webhook(stage: Stage, verdict: Json) -> AsyncIterator[Server]:
    """A validating webhook for the stage's namespace, which answers with this verdict."""

    async def review(request: web.Request) -> web.Response:
        response = {"uid": (await request.json())["request"]["uid"], **verdict}
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
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 5,
    }
    body = {"metadata": {"name": f"gate-{stage.namespace}"}, "webhooks": [webhook]}
    place = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    assert (await stage.cluster.admin.post(place, body)).status == 201
    try:
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def _one_seat(stage: Stage) -> AsyncIterator[None]:
    """Priority and fairness with one seat for the identity, which a request that never ends its body holds. Meanwhile
    the next one is too many.
    """
    cluster, identity = stage.cluster, stage.identity
    name = f"one-{identity.principal_id}"
    flow = "/apis/flowcontrol.apiserver.k8s.io/v1"
    limited = {
        "nominalConcurrencyShares": 0,  # without lending and borrowing, still one request at a time
        "lendablePercent": 0,
        "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Reject"},
    }
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}
    rule = {
        "subjects": [{"kind": "User", "user": {"name": identity.principal_id}}],
        "resourceRules": [{**everything, "clusterScope": True}],
    }
    level = {"metadata": {"name": name}, "spec": {"type": "Limited", "limited": limited}}
    reference = {"priorityLevelConfiguration": {"name": name}, "matchingPrecedence": 2}
    schema = {"metadata": {"name": name}, "spec": {**reference, "rules": [rule]}}
    assert (await cluster.admin.post(f"{flow}/prioritylevelconfigurations", level)).status == 201
    assert (await cluster.admin.post(f"{flow}/flowschemas", schema)).status == 201
    caller = cluster.caller(identity)
    async with caller.sitting("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"):
        await until(lambda: caller.get("/api/v1/namespaces"), lambda answer: answer.status == 429)
        yield

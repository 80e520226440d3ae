"""Validating admission webhooks: they are really called, over TLS under their caBundle."""

import base64
import ssl
import uuid
from http import HTTPStatus
from typing import Any

import aiohttp

from local.kubernetes import matching, status
from local.kubernetes.calls import Call, Question
from local.kubernetes.kinds import named
from local.kubernetes.store import Store

Json = dict[str, Any]


class _CallError(Exception):
    """The webhook could not be asked, or answered nonsense. The message is Go's."""


def check_supported(body: Json) -> None:
    """Raises ApiError 501 for what is not evaluated here, rather than passing over it."""
    for webhook in body.get("webhooks") or ():
        if webhook.get("matchConditions"):
            raise status.out_of_scope("webhooks with matchConditions")
        if "service" in webhook.get("clientConfig", {}):
            raise status.out_of_scope("webhooks behind a service; nothing runs in this cluster. Use a url")


async def check(store: Store, question: Question) -> None:
    """Raises ApiError: as a webhook says when it denies, 500 when one is down that must be asked."""
    if question.call.kind.group == "admissionregistration.k8s.io":
        return  # so that a bad one can be taken away again
    kind = named("validatingwebhookconfigurations")
    for configuration in sorted(store.view(kind), key=lambda one: str(one["metadata"]["name"])):
        for webhook in configuration.get("webhooks") or ():
            if matching.fits(store, question, webhook):
                await _ask(question.call, webhook, _review(question))


async def _ask(call: Call, webhook: Json, review: Json) -> None:
    name = webhook["name"]
    try:
        answer = await _post(webhook, review)
    except _CallError as error:
        if webhook.get("failurePolicy", "Fail") == "Ignore":
            return
        raise status.internal(f'failed calling webhook "{name}": {error}') from None
    call.warnings += answer.get("warnings") or ()
    if not answer.get("allowed"):
        raise status.denied_by_webhook(name, answer.get("status") or {})


async def _post(webhook: Json, review: Json) -> Json:
    config = webhook["clientConfig"]
    timeout = webhook.get("timeoutSeconds", 10)
    url = f"{config['url']}?timeout={timeout}s"
    bundle = base64.b64decode(config.get("caBundle", "")).decode()
    context = ssl.create_default_context(cadata=bundle or None)
    limit = aiohttp.ClientTimeout(total=timeout)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.post(url, json=review, ssl=context) as response,
        ):
            text = await response.text()
            if response.status != HTTPStatus.OK:
                raise _CallError(f"failed to call webhook: {_unexpected(response.status, text)}")
            answer = (await response.json(content_type=None)).get("response") or {}
    except aiohttp.ClientConnectorCertificateError:
        why = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        raise _CallError(f'failed to call webhook: Post "{url}": {why}') from None
    except aiohttp.ClientConnectorError as error:
        where = f"{error.host}:{error.port}"
        why = f"dial tcp {where}: connect: connection refused"
        raise _CallError(f'failed to call webhook: Post "{url}": {why}') from None
    except TimeoutError:
        raise _CallError(f'failed to call webhook: Post "{url}": context deadline exceeded') from None
    except (aiohttp.ClientError, ValueError, AttributeError) as error:
        raise _CallError(f'failed to call webhook: Post "{url}": {error}') from None
    if answer.get("uid") != review["request"]["uid"]:
        said = f'expected response.uid="{review["request"]["uid"]}", got "{answer.get("uid", "")}"'
        raise _CallError(f"received invalid webhook response: {said}")
    return dict(answer)


def _unexpected(code: int, text: str) -> str:
    if code == HTTPStatus.NOT_FOUND:
        return "the server could not find the requested resource"
    return f'an error on the server ("{text.strip()}") has prevented the request from succeeding'


def _review(question: Question) -> Json:
    call, kind = question.call, question.call.kind
    group = {"group": kind.group, "version": "v1", "kind": kind.name}
    resource = {"group": kind.group, "version": "v1", "resource": kind.plural}
    options = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}[question.operation]
    request = {
        "uid": str(uuid.uuid4()),
        "kind": group,
        "resource": resource,
        "requestKind": group,
        "requestResource": resource,
        "name": question.name,
        "operation": question.operation,
        "userInfo": call.user.to_json(),
        "object": question.body,
        "oldObject": question.old,
        "dryRun": call.options.dry_run,
        "options": {"kind": options, "apiVersion": "meta.k8s.io/v1", "fieldManager": call.options.manager},
    }
    if call.namespace:
        request["namespace"] = call.namespace
    return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}

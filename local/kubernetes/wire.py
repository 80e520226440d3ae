"""Bytes in and out: what the caller accepts, which body types there are, and how an answer looks."""

import json
from collections.abc import Sequence
from typing import Any

import yaml
from aiohttp import web

from local.kubernetes import status

Json = dict[str, Any]

OUTPUTS = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor")
INPUTS = ("application/json", "application/yaml")
PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
)
APPLY = "application/apply-patch+yaml"
BODY_LIMIT = 3 * 1024 * 1024


def media_type(request: web.Request) -> str:
    return request.headers.get("Content-Type", "").partition(";")[0].strip()


def wanted(accept: str) -> str:
    """What of an object to send: "Object", or the kind that the caller asks it to be shown as.

    Raises ApiError 406. Table is not served: callers that ask for one (kubectl) always accept the object next.
    """
    if not accept:
        return "Object"
    for one in accept.split(","):
        kind, *parameters = (part.strip() for part in one.split(";"))
        asked = dict(part.partition("=")[::2] for part in parameters)
        if kind not in ("application/json", "application/*", "*/*"):
            continue
        shown = asked.get("as", "")
        if not shown:
            return "Object"
        if shown.startswith("PartialObjectMetadata") and asked.get("g") == "meta.k8s.io":
            return shown
    raise status.not_acceptable(OUTPUTS)


def shown_as(form: str, body: Json) -> Json:
    """The object, or what the caller wants to see of it."""
    if form == "Object" or body.get("kind") == "Status":
        return body
    metadata = {"kind": form, "apiVersion": "meta.k8s.io/v1", "metadata": body["metadata"]}
    if form.endswith("List"):
        return metadata | {
            "items": [
                {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
                for item in body["items"]
            ]
        }
    return metadata


def answer(body: Json, code: int = 200, *, warnings: Sequence[str] = ()) -> web.Response:
    response = web.Response(
        status=code,
        body=(json.dumps(body, separators=(",", ":"), ensure_ascii=False) + "\n").encode(),
        content_type="application/json",
    )
    for text in warnings:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{escaped}"')
    return response


def refusal(error: status.ApiError) -> web.Response:
    response = answer(error.body, error.code)
    response.headers.update(error.headers)
    return response


def written(body: bytes, kind: str) -> Json:
    """The body of a POST or PUT, not yet looked at. Raises ApiError 400 or 415."""
    if kind not in ("", *INPUTS):
        raise status.unsupported_media_type([*INPUTS, "application/vnd.kubernetes.protobuf", "application/cbor"])
    try:
        value = yaml.safe_load(body) if kind == "application/yaml" else json.loads(body)
    except (ValueError, yaml.YAMLError) as error:
        raise status.bad_request(f"error decoding body: {error}") from None
    if not isinstance(value, dict):
        raise status.bad_request("the body is no object")
    return value

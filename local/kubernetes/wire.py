"""What the caller accepts and sends, and how an answer looks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from local.kubernetes import status

Json = dict[str, Any]

OUTPUTS = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
STREAMS = ("application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
PROTOBUF = "application/vnd.kubernetes.protobuf"
INPUTS = ("application/json", "application/yaml", PROTOBUF)
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY)
BODY_LIMIT = 3 * 1024 * 1024
_PARTIAL = ("PartialObjectMetadata", "PartialObjectMetadataList")


@dataclass(frozen=True, slots=True)
class Form:
    """How the caller wants to see an object: `kind` empty for the object itself."""

    kind: str = ""
    version: str = "v1"


def media_type(request: web.Request) -> str:
    return request.headers.get("Content-Type", "").partition(";")[0].strip()


def form_of(accept: str, *, a_list: bool = False) -> Form:
    """Raises ApiError 406.

    Table is not served; who asks for one (kubectl) always takes the object next. Nor are YAML and protobuf.
    """
    clauses = [[part.strip() for part in one.split(";")] for one in accept.split(",") if one.strip()]
    if not clauses:
        return Form()
    if not any(media in ("*/*", *OUTPUTS) for media, *_ in clauses):
        raise status.not_routable((*OUTPUTS, *STREAMS) if a_list else OUTPUTS)
    for media, *parameters in clauses:
        if media not in ("application/json", "*/*"):
            continue
        asked = dict(part.partition("=")[::2] for part in parameters)
        if "as" not in asked:
            return Form()
        if asked["as"] in _PARTIAL and asked.get("g") == "meta.k8s.io" and asked.get("v") in ("v1", "v1beta1"):
            return Form(asked["as"], asked["v"])
    raise status.not_acceptable(OUTPUTS)


def shown_as(form: Form, body: Json, go_type: str) -> Json:
    """The object, or what the caller wants to see of it. Raises ApiError 406 where a list is meant to be none."""
    if not form.kind or body.get("kind") == "Status":
        return body
    a_list = "items" in body
    if a_list != form.kind.endswith("List"):
        found = f"*{go_type}List" if a_list else f"*{go_type}"
        raise status.wrong_form(form.kind, found, a_list=a_list)
    shown = {"kind": form.kind, "apiVersion": f"meta.k8s.io/{form.version}", "metadata": body["metadata"]}
    if a_list:
        single = {"kind": _PARTIAL[0], "apiVersion": shown["apiVersion"]}
        # Without items the real server says null here, and [] where it shows whole objects.
        shown["items"] = [single | {"metadata": item["metadata"]} for item in body["items"]] or None
    return shown


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
    return answer(error.body, error.code)


async def read(request: web.Request) -> bytes:
    """The body. Raises ApiError 413."""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise status.too_large(BODY_LIMIT) from None

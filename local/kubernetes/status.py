"""What the API server says when it refuses: Status objects, word for word.

Messages and causes were taken from a real kube-apiserver 1.37; the contract suite compares the two. Every refusal of
the stand-in is an `ApiError` made by one of the functions below, so that a text stands in one place only.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

Json = dict[str, Any]

REFUSED_FOR = "the object has been modified; please apply your changes to the latest version and try again"


@dataclass(frozen=True, slots=True)
class Cause:
    """One line of an Invalid: `field` as a path, `message` without it."""

    reason: str
    message: str
    field: str = ""

    def render(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message

    def to_json(self) -> Json:
        body = {"reason": self.reason, "message": self.message, "field": self.field}
        return {name: text for name, text in body.items() if text}


class ApiError(Exception):
    """A refusal with its Status body."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
        }
        if reason:
            self.body["reason"] = reason
        if details is not None:
            self.body["details"] = details
        self.body["code"] = code


def _about(resource: str, name: str, group: str = "") -> Json:
    details = {"name": name, "group": group, "kind": resource}
    return {key: text for key, text in details.items() if text}


def _qualified(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def bad_request(message: str) -> ApiError:
    return ApiError(HTTPStatus.BAD_REQUEST, "BadRequest", message)


def unauthorized() -> ApiError:
    return ApiError(HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized")


def forbidden(resource: str, name: str, why: str, group: str = "", causes: Sequence[Cause] = ()) -> ApiError:
    """Without a resource it is about a path: `forbidden: User ... cannot get path "/metrics"`."""
    about = f'{_qualified(resource, group)} "{name}"' if name else _qualified(resource, group)
    details = _about(resource, name, group)
    if causes:
        details["causes"] = [cause.to_json() for cause in causes]
    message = f"{about} is forbidden: {why}" if about else f"forbidden: {why}"
    return ApiError(HTTPStatus.FORBIDDEN, "Forbidden", message, details)


def not_found(resource: str, name: str, group: str = "") -> ApiError:
    message = f'{_qualified(resource, group)} "{name}" not found'
    return ApiError(HTTPStatus.NOT_FOUND, "NotFound", message, _about(resource, name, group))


def too_large(limit: int) -> ApiError:
    message = f"Request entity too large: limit is {limit}"
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLarge", message)


def too_many_operations(limit: int, found: int) -> ApiError:
    message = f"Request entity too large: The allowed maximum operations in a JSON patch is {limit}, got {found}"
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLarge", message)


def no_such_resource() -> ApiError:
    message = "the server could not find the requested resource"
    return ApiError(HTTPStatus.NOT_FOUND, "NotFound", message, {})


def method_not_allowed() -> ApiError:
    message = "the server does not allow this method on the requested resource"
    return ApiError(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", message, {})


def already_exists(resource: str, name: str, group: str = "", *, going: bool = False) -> ApiError:
    message = f'{_qualified(resource, group)} "{name}" already exists'
    if going:
        message = f"object is being deleted: {message}"
    return ApiError(HTTPStatus.CONFLICT, "AlreadyExists", message, _about(resource, name, group))


def conflict(resource: str, name: str, group: str = "", why: str = REFUSED_FOR) -> ApiError:
    message = f'Operation cannot be fulfilled on {_qualified(resource, group)} "{name}": {why}'
    return ApiError(HTTPStatus.CONFLICT, "Conflict", message, _about(resource, name, group))


def apply_conflict(message: str, causes: Sequence[Cause]) -> ApiError:
    details = {"causes": [cause.to_json() for cause in causes]}
    return ApiError(HTTPStatus.CONFLICT, "Conflict", message, details)


def invalid(kind: str, name: str, causes: Sequence[Cause], group: str = "") -> ApiError:
    lines = [cause.render() for cause in causes]
    said = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    message = f'{_qualified(kind, group)} "{name}" is invalid: {said}'
    details = _about(kind, name, group)
    details["causes"] = [cause.to_json() for cause in causes]
    return ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", message, details)


def unprocessable(message: str) -> ApiError:
    """A JSON patch that does not fit: Invalid, but with a bare message."""
    return ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", message, {})


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    """A body that no decoder takes."""
    listed = ", ".join(accepted)
    message = f"the body of the request was in an unknown format - accepted media types include: {listed}"
    return ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)


def no_such_patch() -> ApiError:
    """A PATCH of an unknown kind: already the router refuses it."""
    message = "415: Unsupported Media Type"
    return ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message, {})


def not_routable(accepted: Sequence[str]) -> ApiError:
    """An Accept header that already the router cannot serve."""
    message = f"406: Not Acceptable\n\nAvailable representations: {', '.join(accepted)}"
    return ApiError(HTTPStatus.NOT_ACCEPTABLE, "NotAcceptable", message, {})


def not_acceptable(accepted: Sequence[str]) -> ApiError:
    """An Accept header that asks for a form of the object that there is not."""
    message = "only the following media types are accepted: " + ", ".join(accepted)
    return ApiError(HTTPStatus.NOT_ACCEPTABLE, "NotAcceptable", message)


def wrong_form(form: str, found: str, *, a_list: bool) -> ApiError:
    what = "a list" if a_list else "not a list"
    message = f"you requested {form}, but the requested object is {what} ({found})"
    return ApiError(HTTPStatus.NOT_ACCEPTABLE, "NotAcceptable", message)


def expired(message: str) -> ApiError:
    return ApiError(HTTPStatus.GONE, "Expired", message)


def broken(message: str) -> ApiError:
    """500 without a reason: what the server says of objects that its types cannot hold, and it will say so for ever."""
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "", message)


def internal(message: str) -> ApiError:
    """500 InternalError: something that the server depends on failed; trying again can help."""
    details = {"causes": [{"message": message}]}
    said = f"Internal error occurred: {message}"
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", said, details)


def denied_by_webhook(webhook: str, said: Json) -> ApiError:
    """The webhook's own status with its message put behind the name; 400 where it gives no code of a refusal."""
    code = said.get("code", 0)
    why = said.get("message") or said.get("reason")
    message = f'admission webhook "{webhook}" denied the request' + (f": {why}" if why else " without explanation")
    refused = max(code, HTTPStatus.BAD_REQUEST)
    return ApiError(refused, said.get("reason", ""), message, said.get("details"))


_POLICY_CODES = {
    "Unauthorized": HTTPStatus.UNAUTHORIZED,
    "Forbidden": HTTPStatus.FORBIDDEN,
    "RequestEntityTooLarge": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}


def denied_by_policy(resource: str, name: str, group: str, reason: str, why: str) -> ApiError:
    details = _about(resource, name, group) | {"causes": [{"message": why}]}
    message = f'{_qualified(resource, group)} "{name}" is forbidden: {why}'
    code = _POLICY_CODES.get(reason, HTTPStatus.UNPROCESSABLE_ENTITY)
    return ApiError(code, reason, message, details)


def out_of_scope(message: str) -> ApiError:
    """501: a real server would do it and this stand-in cannot. Never silently done half."""
    return ApiError(HTTPStatus.NOT_IMPLEMENTED, "NotImplemented", f"the stand-in does not do this: {message}")


# Causes, as the field package of apimachinery writes them.


def required(field: str, why: str = "") -> Cause:
    return Cause("FieldValueRequired", f"Required value: {why}" if why else "Required value", field)


def quoted(text: str) -> str:
    """As Go's %q prints it."""
    return json.dumps(text, ensure_ascii=False).replace("\\u00", "\\x")


def compact(value: Any) -> str:
    """JSON as Go writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def wrong(field: str, shown: str, why: str) -> Cause:
    """`shown` is the value as Go prints it: strings quoted."""
    return Cause("FieldValueInvalid", f"Invalid value: {shown}: {why}", field)


def not_allowed(field: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {why}", field)


def too_long(field: str, why: str) -> Cause:
    return Cause("FieldValueTooLong", f"Too long: {why}", field)


def duplicate(field: str, value: str) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {quoted(value)}", field)


def not_present(field: str, value: str) -> Cause:
    return Cause("FieldValueNotFound", f"Not found: {quoted(value)}", field)


def unsupported(field: str, shown: str, supported: Sequence[str]) -> Cause:
    listed = ", ".join(f'"{value}"' for value in supported)
    return Cause("FieldValueNotSupported", f"Unsupported value: {shown}: supported values: {listed}", field)

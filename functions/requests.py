"""What routes read from a request: query, body, route, and the caller's role.

The query is read from the URL alone. `req.params` is what the host made of it: it leaves out empty values, joins
repeated ones and merges names that differ in case, so `DELETE ...?dryRun=` would offboard for real.
"""

import base64
import json
import logging
import os
import re
from collections import Counter
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func

from pullkeeper.errors import MALFORMED, Forbidden, InvalidRequest, TooLarge
from pullkeeper.model import ClusterId

_logger = logging.getLogger("pullkeeper")
_LONGEST_BODY: Final = 256 * 1024
_OF_THE_PLATFORM: Final = frozenset({"code", "clientId"})
"""The function key and the key's name, which the host accepts in the query."""
_PLAIN_NAME: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)


def check_query(req: func.HttpRequest, allowed: tuple[str, ...]) -> None:
    """Raise InvalidRequest that names each parameter that is unknown, empty or repeated.

    A misspelled parameter must not be ignored: the default that would apply instead may delete something.
    """
    pairs = _query(req)
    faults = [f"{_quote(name)}: unknown" for name in dict.fromkeys(name for name, _ in pairs) if name not in allowed]
    faults += [f"{name}: empty" for name, value in pairs if name in allowed and not value]
    faults += [
        f"{name}: repeated" for name, n in Counter(name for name, _ in pairs).items() if name in allowed and n > 1
    ]
    if faults:
        takes = ", ".join(allowed) or "no parameters"
        raise InvalidRequest(f"query: {'; '.join(faults)}. This route takes {takes}")


def parameter(req: func.HttpRequest, name: str) -> str | None:
    """Return a parameter of a query that `check_query` has accepted."""
    return dict(_query(req)).get(name)


def boolean_parameter(req: func.HttpRequest, name: str) -> bool:
    """Return a boolean parameter, False if it is absent. Raises InvalidRequest for anything but true or false."""
    value = parameter(req, name)
    if value not in {"true", "false", None}:
        raise InvalidRequest(f"{name}: must be true or false")
    return value == "true"


def _query(req: func.HttpRequest) -> list[tuple[str, str]]:
    """Names and values as the caller wrote them, without those of the platform."""
    pairs = parse_qsl(urlsplit(req.url).query, keep_blank_values=True)
    return [(name, value) for name, value in pairs if name not in _OF_THE_PLATFORM]


def _quote(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else "a name with other characters than letters and digits"


def read_body(req: func.HttpRequest) -> bytes:
    """Return the body. Raises TooLarge, and InvalidRequest if it is empty.

    The host passes on an empty body if the request has no Content-Length (`Transfer-Encoding: chunked`).
    """
    body: bytes = req.get_body()
    if not body and "Content-Length" in req.headers:
        raise InvalidRequest("the body is empty")
    if not body:
        raise InvalidRequest(
            "the body arrived empty, because the request has no Content-Length. Send one: the Functions host drops a "
            "body with Transfer-Encoding: chunked"
        )
    if len(body) > _LONGEST_BODY:
        raise TooLarge(f"the body is longer than {_LONGEST_BODY} bytes")
    return body


def cluster_from_route(req: func.HttpRequest) -> ClusterId:
    """Return the cluster that the route names. Raises InvalidRequest."""
    return ClusterId.of(*(req.route_params[part] for part in ("subscription", "resourceGroup", "name")))


def is_sign_in_required() -> bool:
    """Whether the platform says that it has callers sign in with Entra (Easy Auth)."""
    return os.environ.get("WEBSITE_AUTH_ENABLED", "").lower() == "true"


def check_role(req: func.HttpRequest, role: str) -> None:
    """Raise Forbidden if callers sign in with Entra and this one does not have the app role.

    The principal's header counts only where the platform says that it checks callers, because then the platform itself
    writes the header. Anywhere else a caller could write it.
    """
    if not is_sign_in_required():
        return
    try:
        principal = json.loads(base64.b64decode(req.headers.get("X-MS-CLIENT-PRINCIPAL", "")))
        roles = {claim["val"] for claim in principal["claims"] if claim["typ"] in {"roles", principal.get("role_typ")}}
    except MALFORMED:
        roles = set()
    if role not in roles:
        _logger.warning("refused: %s needs the app role %s", req.method, role)
        raise Forbidden(f"the caller does not have the app role {role}")

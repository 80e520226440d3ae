"""The app behind `http.json` and `keys.json`: it answers with what the function saw, or with each kind of response."""

import json
from collections.abc import Callable
from typing import Any

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


def _seen(req: func.HttpRequest, name: str) -> func.HttpResponse:
    body = req.get_body()
    seen = {
        "method": req.method,
        "url": req.url,
        "params": dict(req.params),
        "headers": dict(req.headers),
        "route_params": dict(req.route_params),
        "body_len": len(body),
        "body": repr(body[:200]),
        "fn": name,
    }
    return func.HttpResponse(json.dumps(seen), mimetype="application/json")


def _add(name: str, route: str, methods: list[str] | None = None, level: func.AuthLevel | None = None) -> None:
    async def answer(req: func.HttpRequest) -> func.HttpResponse:
        return _seen(req, name)

    answer.__name__ = name
    options: dict[str, Any] = {"route": route}
    options |= {"methods": methods} if methods else {}
    options |= {"auth_level": level} if level else {}
    app.function_name(name)(app.route(**options)(answer))


_add("q", "q", ["GET"])
_add("echo", "echo", ["GET", "POST", "PUT", "DELETE"])
_add("any", "any")
_add("split_get", "split", ["GET"])
_add("split_post", "split", ["POST"])
_add("item", "items/{id}", ["GET"])
_add("item_special", "items/special", ["GET"])
_add("num", "num/{id:int}", ["GET"])
_add("opt", "opt/{id?}", ["GET"])
_add("rest", "rest/{*path}", ["GET"])
_add("mixed", "Mixed/Case", ["GET"])
_add("fn", "fn", ["GET"], func.AuthLevel.FUNCTION)
_add("adm", "adm", ["GET"], func.AuthLevel.ADMIN)


@app.route(route="getonly", methods=["GET"])
async def getonly(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the worker passes it
    return func.HttpResponse("getonly body", headers={"X-Mine": "1"})


@app.route(route="resp/{kind}", methods=["GET", "POST"])
async def resp(req: func.HttpRequest):  # type: ignore[no-untyped-def]  # noqa: ANN201 - the worker checks annotations
    """Respond with the kind of value that the route names."""
    kind, response = req.route_params["kind"], func.HttpResponse
    if kind == "raise":
        raise ValueError("secret-text-in-exception")
    if kind.lstrip("-").isdigit() and kind not in {"204", "304", "302", "500", "503", "401"}:
        return response("x", status_code=int(kind))
    kinds: dict[str, Callable[[], Any]] = {
        "none": lambda: None,
        "str": lambda: "a string",
        "jsonstr": lambda: '{"a": 1}',
        "respstr": lambda: '{"body": "x", "status": 418}',
        "dict": lambda: {"a": 1},
        "list": lambda: [1],
        "bytes": lambda: b"raw",
        "int": lambda: 5,
        "empty": response,
        "emptystr": lambda: response(""),
        "emptybytes": lambda: response(b""),
        "204": lambda: response(status_code=204),
        "204body": lambda: response("body", status_code=204),
        "304": lambda: response(status_code=304),
        "304body": lambda: response("x", status_code=304),
        "bytesbody": lambda: response(b"\x00\xff\x01", mimetype="application/octet-stream"),
        "text": lambda: response("h\u00e9llo"),
        "json": lambda: response('{"a": 1}', mimetype="application/json"),
        "jsoncharset": lambda: response('{"a": 1}', mimetype="application/json", charset="latin-1"),
        "cl_ok": lambda: response("12345", headers={"Content-Length": "5"}),
        "cl_short": lambda: response("12345", headers={"Content-Length": "3"}),
        "cl_long": lambda: response("12345", headers={"Content-Length": "50"}),
        "te": lambda: response("12345", headers={"Transfer-Encoding": "chunked"}),
        "conn": lambda: response("x", headers={"Connection": "close"}),
        "server": lambda: response("x", headers={"Server": "mine", "Date": "yesterday"}),
        "ctheader": lambda: response("<b>", headers={"Content-Type": "text/html; charset=utf-8"}),
        "cookie": lambda: response("cookie", headers={"Set-Cookie": "a=1; Path=/; HttpOnly"}),
        "badheader": lambda: response("x", headers={"X-Bad": "a\r\nX-Inj: 1"}),
        "badheadername": lambda: response("x", headers={"X Bad": "1"}),
        "uniheader": lambda: response("x", headers={"X-Uni": "h\u00e9\u20ac"}),
        "intheader": lambda: response("x", headers={"X-Int": "5"}),
        "neg": lambda: response("x", status_code=-1),
        "strcode": lambda: response("x", status_code="abc"),  # type: ignore[arg-type]
        "302": lambda: response(status_code=302, headers={"Location": "/api/q"}),
        "500": lambda: response("mine", status_code=500),
        "503": lambda: response("busy", status_code=503, headers={"Retry-After": "7"}),
        "401": lambda: response("no", status_code=401, headers={"WWW-Authenticate": "Bearer"}),
    }
    return kinds[kind]()


@app.route(route="syncraise", methods=["GET"])
def syncraise(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the worker passes it
    raise ValueError("secret-text-in-exception")


@app.queue_trigger(arg_name="msg", queue_name="facts", connection="AzureWebJobsStorage")
async def qfacts(msg: func.QueueMessage) -> None:
    if b"FAIL" in msg.get_body():
        raise ValueError("secret-text-in-exception")

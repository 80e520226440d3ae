"""Microsoft's Python worker without its gRPC front: `python front.py APP_DIRECTORY`.

The worker library (azure-functions-runtime) is on PyPI; the front that passes it the host's messages is not. This one
passes it objects of the same shape. Requests are JSON lines on standard input, responses are JSON lines on standard
output, and the logs of the app and the worker go to standard error.

The first line of output is the result of indexing: the functions that the worker found. Each line of input is one
invocation: `{"function": name, "http": {...}}`, `{"function": name, "timer": {...}}` or
`{"function": name, "queue": {"body": ..., "metadata": {...}}}`.
"""

import asyncio
import json
import logging
import os
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import azure_functions_runtime as worker


class Message:
    """A protocol message: takes the fields that the .proto file names, and no others, as a compiled one does."""

    fields: ClassVar[frozenset[str]] = frozenset()
    oneof: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, **values: Any) -> None:
        unknown = values.keys() - self.fields - self.oneof
        if unknown:
            raise ValueError(f"protocol message {type(self).__name__} has no {sorted(unknown)} field")
        self.set = {name: value for name, value in values.items() if value is not None}
        if len(self.set.keys() & self.oneof) > 1:
            raise ValueError(f"{type(self).__name__} takes one of {sorted(self.oneof)}")

    def __getattr__(self, name: str) -> Any:
        if name in self.fields | self.oneof:
            return self.set.get(name)
        raise AttributeError(name)

    def WhichOneof(self, group: str) -> str | None:  # noqa: N802, ARG002 - protobuf's name; each has one group
        return next(iter(self.set.keys() & self.oneof), None)


def message(name: str, content: dict[str, Any]) -> type[Message]:
    constants = {
        key: SimpleNamespace(**value) if isinstance(value, dict) else value
        for key, value in content.get("constants", {}).items()
    }
    members = {"fields": frozenset(content["fields"]), "oneof": frozenset(content.get("oneof", ())), **constants}
    return type(name, (Message,), members)


# The messages that a Python worker exchanges, from FunctionRpc.proto of azure-functions-language-worker-protobuf.
_MESSAGES = json.loads(Path(__file__).with_name("messages.json").read_text())
PROTOS = SimpleNamespace(**{name: message(name, content) for name, content in _MESSAGES.items()})


def request(**content: Any) -> SimpleNamespace:
    """A request as the worker expects it: the host's streaming message, and the properties of the front."""
    return SimpleNamespace(request=SimpleNamespace(**content), properties={"host": "127.0.0.1", "protos": PROTOS})


async def index(app: Path) -> dict[str, Any]:
    """Index the app. Returns what the host gets: an id and raw bindings for each function."""
    start = SimpleNamespace(capabilities={}, function_app_directory=str(app))
    response = await worker.worker_init_request(request(worker_init_request=start))
    if response.result.status != PROTOS.StatusResult.Success:
        return {"error": response.result.exception.message}
    found = await worker.functions_metadata_request(request())
    functions = {}
    for function in found.function_metadata_results or ():
        load = SimpleNamespace(function_id=function.function_id, metadata=function)
        loaded = await worker.function_load_request(request(function_load_request=load))
        if loaded.result.status != PROTOS.StatusResult.Success:
            return {"error": loaded.result.exception.message}
        bindings = [json.loads(raw) for raw in function.raw_bindings]
        functions[function.name] = {"id": function.function_id, "bindings": bindings}
    return {"functions": functions, "capabilities": response.capabilities}


async def invoke(function: dict[str, Any], call: dict[str, Any]) -> Message:
    """Invoke a function with its trigger's data in the shapes that the host sends."""
    trigger = next(binding for binding in function["bindings"] if binding["type"].endswith("Trigger"))
    if "http" in call:
        http = call["http"]
        body = PROTOS.TypedData(bytes=http.get("body", "").encode())
        data = PROTOS.TypedData(
            http=PROTOS.RpcHttp(**{"headers": {}, "params": {}, "query": {}} | http | {"body": body})
        )
    elif "timer" in call:
        data = PROTOS.TypedData(json=json.dumps(call["timer"]))
    else:
        data = PROTOS.TypedData(string=call["queue"]["body"])
    metadata = {
        # Text is sent as it is, everything else as JSON.
        name: PROTOS.TypedData(string=value) if isinstance(value, str) else PROTOS.TypedData(json=json.dumps(value))
        for name, value in call.get("queue", {}).get("metadata", {}).items()
    }
    invocation = SimpleNamespace(
        invocation_id=str(uuid.uuid4()),
        function_id=function["id"],
        input_data=[PROTOS.ParameterBinding(name=trigger["name"], data=data)],
        trigger_metadata=metadata,
        trace_context=SimpleNamespace(trace_parent="", trace_state="", attributes={}),
        retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
    )
    response: Message = await worker.invocation_request(request(invocation_request=invocation))
    return response


def encode(value: object) -> Any:
    """Convert what `json` cannot write: messages to their fields, bytes to text."""
    if isinstance(value, Message):
        return value.set
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(type(value).__name__)


async def serve(app: Path) -> None:
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the app prints must not mix with the responses
    os.chdir(app)
    sys.path.insert(0, str(app))
    worker.start_threadpool_executor()

    def respond(value: object) -> None:
        print(json.dumps(value, default=encode), file=output, flush=True)

    indexed = await index(app)
    respond(indexed)
    while line := await asyncio.to_thread(sys.stdin.readline):
        call = json.loads(line)
        respond(await invoke(indexed["functions"][call["function"]], call))
    worker.stop_threadpool_executor()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.run(serve(Path(sys.argv[1]).resolve()))

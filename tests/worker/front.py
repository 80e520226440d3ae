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


def message(name: str, fields: str, oneof: str = "", **constants: Any) -> type[Message]:
    members = {"fields": frozenset(fields.split()), "oneof": frozenset(oneof.split()), **constants}
    return type(name, (Message,), members)


# From FunctionRpc.proto of azure-functions-language-worker-protobuf: the messages that a Python worker exchanges.
TypedData = message(
    "TypedData",
    "",
    oneof="string json bytes stream http int double collection_bytes collection_string collection_double "
    "collection_sint64 model_binding_data collection_model_binding_data",
)
RpcHttp = message(
    "RpcHttp",
    "method url headers body params status_code query enable_content_negotiation rawBody cookies nullable_headers "
    "nullable_params nullable_query",
)
ParameterBinding = message("ParameterBinding", "name", oneof="data rpc_shared_memory")
NullableString = message("NullableString", "", oneof="value")
NullableBool = message("NullableBool", "", oneof="value")
NullableDouble = message("NullableDouble", "", oneof="value")
NullableTimestamp = message("NullableTimestamp", "", oneof="value")
PROTOS = SimpleNamespace(
    BindingInfo=message("BindingInfo", "type direction data_type properties", inout=2, out=1, undefined=0),
    FunctionLoadResponse=message("FunctionLoadResponse", "function_id result is_dependency_downloaded"),
    FunctionMetadataResponse=message(
        "FunctionMetadataResponse", "function_metadata_results result use_default_metadata_indexing"
    ),
    InvocationResponse=message("InvocationResponse", "invocation_id output_data return_value result"),
    NullableBool=NullableBool,
    NullableDouble=NullableDouble,
    NullableString=NullableString,
    NullableTimestamp=NullableTimestamp,
    ParameterBinding=ParameterBinding,
    RpcException=message("RpcException", "source stack_trace message is_user_exception type"),
    RpcFunctionMetadata=message(
        "RpcFunctionMetadata",
        "name directory script_file entry_point bindings is_proxy status language raw_bindings function_id "
        "managed_dependency_enabled retry_options properties",
    ),
    RpcHttp=RpcHttp,
    RpcHttpCookie=message(
        "RpcHttpCookie",
        "name value domain path expires secure http_only same_site max_age",
        SameSite=SimpleNamespace(Lax=1, Strict=2, ExplicitNone=3, **{"None": 0}),
    ),
    RpcRetryOptions=message(
        "RpcRetryOptions", "max_retry_count delay_interval minimum_interval maximum_interval retry_strategy"
    ),
    StatusResult=message("StatusResult", "status result exception logs", Failure=0, Success=1, Cancelled=2),
    TypedData=TypedData,
    WorkerInitResponse=message("WorkerInitResponse", "worker_version capabilities result worker_metadata"),
    WorkerMetadata=message(
        "WorkerMetadata", "runtime_name runtime_version worker_version worker_bitness custom_properties"
    ),
)


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
        body = TypedData(bytes=http.get("body", "").encode())
        data = TypedData(http=RpcHttp(**{"headers": {}, "params": {}, "query": {}} | http | {"body": body}))
    elif "timer" in call:
        data = TypedData(json=json.dumps(call["timer"]))
    else:
        data = TypedData(string=call["queue"]["body"])
    metadata = {
        # Text is sent as it is, everything else as JSON.
        name: TypedData(string=value) if isinstance(value, str) else TypedData(json=json.dumps(value))
        for name, value in call.get("queue", {}).get("metadata", {}).items()
    }
    invocation = SimpleNamespace(
        invocation_id=str(uuid.uuid4()),
        function_id=function["id"],
        input_data=[ParameterBinding(name=trigger["name"], data=data)],
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

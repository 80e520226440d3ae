"""Invoke the functions of the app as the host does."""

import json
from typing import Any, Final

import azure.functions as func
from azure.functions.timer import TimerRequest

from function_app import app
from local.cloud import LocalCluster
from pullkeeper.fleet.shards import shard_of

REGISTERED: Final = app.get_functions()
"""May be asked for once in a process."""
FUNCTIONS: Final = {function.get_function_name(): function.get_user_function() for function in REGISTERED}
WITHOUT_CALLS: Final = {"dashboard", "health", "openapi", "refresh_poison"}
"""Functions that call no other service."""


async def invoke(name: str, cluster: LocalCluster, operation: str = "0" * 32) -> Any:
    """Call a function as the host does. Returns a route's response."""
    place = {"subscription": cluster.id.subscription, "resourceGroup": cluster.id.resource_group, "name": "aks-1"}
    shard = _message({"shard": shard_of(cluster.id), "reason": "due"})
    onboarding = _message({"operation": operation})
    body = {"cluster": str(cluster.id), "hub": "main"}
    triggers: dict[str, Any] = {
        "schedule": {"timer": TimerRequest(past_due=False)},
        "refresh": {"message": shard},
        "refresh_poison": {"message": shard},
        "onboarding": {"message": onboarding},
        "onboarding_poison": {"message": onboarding},
        "clusters": {"req": _request("GET", "clusters")},
        "cluster": {"req": _request("GET", "clusters/s/g/n", place)},
        "operations": {"req": _request("GET", "operations")},
        "operation": {"req": _request("GET", "operations/o", {"id": operation})},
        "refresh_all": {"req": _request("POST", "refresh")},
        "refresh_cluster": {"req": _request("POST", "clusters/s/g/n/refresh", place)},
        "onboard": {"req": _request("POST", "clusters", body=body)},
        "offboard": {"req": _request("DELETE", "clusters/s/g/n", place)},
        "handover": {"req": _request("GET", "handover")},
        "status": {"req": _request("GET", "status")},
        "cluster_diagnosis": {"req": _request("GET", "clusters/s/g/n/diagnosis", place)},
        "hub_diagnosis": {"req": _request("GET", "hubs/main/diagnosis", {"hub": "main"})},
        "dashboard": {"req": _request("GET", "dashboard")},
        "health": {"req": _request("GET", "health")},
        "openapi": {"req": _request("GET", "openapi.json")},
    }
    return await FUNCTIONS[name](**triggers[name])


def _message(body: dict[str, str]) -> func.QueueMessage:
    return func.QueueMessage(id="1", body=json.dumps(body).encode())


def _request(
    method: str, path: str, place: dict[str, str] | None = None, body: dict[str, str] | None = None
) -> func.HttpRequest:
    content = json.dumps(body).encode() if body else b""
    return func.HttpRequest(method, f"http://localhost/api/{path}", route_params=place or {}, body=content)

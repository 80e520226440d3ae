"""What deployments, jobs, cron jobs, pods and services forbid: the checks that a manifest written by hand runs into.

The real server checks some more (probes, affinities, volume sources); nothing is run here, so they matter less.
"""

import zoneinfo
from collections.abc import Iterator
from typing import Any

from croniter import croniter

from local.kubernetes import naming, quantities
from local.kubernetes.matching import selects
from local.kubernetes.status import (
    Cause,
    compact,
    duplicate,
    not_allowed,
    not_present,
    quoted,
    required,
    unsupported,
    wrong,
)

Json = dict[str, Any]

_PORTS = range(1, 65536)
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_CONCURRENCY = ("Allow", "Forbid", "Replace")
_SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_VOLUMES_FIRST = ("emptyDir", "hostPath")
_CRON_FIELDS = 5
_CRON_NAME_LIMIT = 52  # a job's name is eleven characters longer


def deployment(body: Json) -> Iterator[Cause]:
    spec = body["spec"]
    yield from _not_negative(spec, "spec", "replicas", "minReadySeconds", "revisionHistoryLimit")
    selector, labels = spec.get("selector"), spec["template"]["metadata"].get("labels", {})
    if selector is None:
        yield required("spec.selector")
    elif not (selector.get("matchLabels") or selector.get("matchExpressions")):
        yield wrong("spec.selector", compact(selector), "empty selector is invalid for deployment")
    if selector is None or not selects(selector, labels):
        yield wrong("spec.template.metadata.labels", compact(labels), "`selector` does not match template `labels`")
    yield from _pod_spec(spec["template"]["spec"], "spec.template.spec", ("Always",))
    strategy = spec["strategy"]
    if strategy["type"] not in ("Recreate", "RollingUpdate"):
        rolling = strategy.get("rollingUpdate")
        shown = rolling and {"MaxUnavailable": rolling["maxUnavailable"], "MaxSurge": rolling["maxSurge"]}
        whole = compact({"Type": strategy["type"], "RollingUpdate": shown})
        yield unsupported("spec.strategy", whole, ["Recreate", "RollingUpdate"])
    elif strategy["type"] == "Recreate" and "rollingUpdate" in strategy:
        yield not_allowed("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")


def deployment_change(body: Json, old: Json) -> Iterator[Cause]:
    if body["spec"].get("selector") != old["spec"].get("selector"):
        yield wrong("spec.selector", compact(body["spec"].get("selector")), "field is immutable")


def cron_job(body: Json) -> Iterator[Cause]:
    spec, name = body["spec"], body["metadata"].get("name", "")
    if len(name) > _CRON_NAME_LIMIT:
        yield wrong("metadata.name", quoted(name), f"must be no more than {_CRON_NAME_LIMIT} characters")
    yield from _schedule(spec.get("schedule", ""))
    yield from _not_negative(
        spec, "spec", "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"
    )
    zone = spec.get("timeZone")
    if zone is not None and zone not in zoneinfo.available_timezones():
        yield wrong("spec.timeZone", quoted(zone), f"unknown time zone {zone}")
    if spec["concurrencyPolicy"] not in _CONCURRENCY:
        yield unsupported("spec.concurrencyPolicy", quoted(spec["concurrencyPolicy"]), _CONCURRENCY)
    yield from _job_spec(spec["jobTemplate"]["spec"], "spec.jobTemplate.spec")


def _schedule(schedule: str) -> Iterator[Cause]:
    parts = schedule.split()
    if not schedule:
        yield required("spec.schedule")
    elif schedule.startswith("@"):
        if not croniter.is_valid(schedule):
            yield wrong("spec.schedule", quoted(schedule), f"unrecognized descriptor: {schedule}")
    elif len(parts) != _CRON_FIELDS:
        said = f"expected exactly {_CRON_FIELDS} fields, found {len(parts)}: [{' '.join(parts)}]"
        yield wrong("spec.schedule", quoted(schedule), said)
    elif not croniter.is_valid(schedule):
        yield wrong("spec.schedule", quoted(schedule), "failed to parse int from the schedule")


def job(body: Json) -> Iterator[Cause]:
    return _job_spec(body["spec"], "spec")


def job_change(body: Json, old: Json) -> Iterator[Cause]:
    for name in ("template", "selector", "completions", "completionMode"):
        if body["spec"].get(name) != old["spec"].get(name):
            yield wrong(f"spec.{name}", compact(body["spec"].get(name)), "field is immutable")


def _job_spec(spec: Json, where: str) -> Iterator[Cause]:
    yield from _not_negative(
        spec, where, "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"
    )
    pod_spec, place = spec["template"]["spec"], f"{where}.template.spec"
    if pod_spec.get("restartPolicy") == "Always":
        yield required(f"{place}.restartPolicy", 'valid values: "OnFailure", "Never"')
    yield from _pod_spec(pod_spec, place, ("Always", "OnFailure", "Never"))


def pod(body: Json) -> Iterator[Cause]:
    return _pod_spec(body["spec"], "spec", ("Always", "OnFailure", "Never"))


def _pod_spec(spec: Json, where: str, policies: tuple[str, ...]) -> Iterator[Cause]:
    volumes: set[str | None] = set()
    for index, volume in enumerate(spec.get("volumes", ())):
        types = sorted(volume.keys() - {"name"}, key=lambda name: (name not in _VOLUMES_FIRST, name))
        for extra in types[1:]:
            yield not_allowed(f"{where}.volumes[{index}].{extra}", "may not specify more than 1 volume type")
        if len(types) == 1:
            volumes.add(volume.get("name"))
    if not spec.get("containers"):
        yield required(f"{where}.containers")
    names: set[str] = set()
    for plural in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(plural) or ()):
            yield from _container(container, f"{where}.{plural}[{index}]", volumes, names)
    if spec.get("restartPolicy") not in policies:
        yield unsupported(f"{where}.restartPolicy", quoted(spec.get("restartPolicy", "")), policies)
    account = spec.get("serviceAccountName", "")
    if account:
        yield from (wrong(f"{where}.serviceAccountName", quoted(account), said) for said in naming.subdomain(account))


def _container(container: Json, where: str, volumes: set[str | None], names: set[str]) -> Iterator[Cause]:
    name = container.get("name", "")
    if not name:
        yield required(f"{where}.name")
    else:
        yield from (wrong(f"{where}.name", quoted(name), said) for said in naming.label(name))
        if name in names:
            yield duplicate(f"{where}.name", name)
        names.add(name)
    if not container.get("image"):
        yield required(f"{where}.image")
    if container["imagePullPolicy"] not in _PULL_POLICIES:
        yield unsupported(f"{where}.imagePullPolicy", quoted(container["imagePullPolicy"]), _PULL_POLICIES)
    for index, port in enumerate(container.get("ports", ())):
        yield from _port(port.get("containerPort"), f"{where}.ports[{index}].containerPort")
    for index, mount in enumerate(container.get("volumeMounts", ())):
        if mount.get("name") not in volumes:
            yield not_present(f"{where}.volumeMounts[{index}].name", mount.get("name", ""))
    limits = container["resources"].get("limits", {})
    for resource, amount in container["resources"].get("requests", {}).items():
        limit = limits.get(resource)
        if limit is not None and quantities.value_of(amount) > quantities.value_of(limit):
            said = f"must be less than or equal to {resource} limit of {limit}"
            yield wrong(f"{where}.resources.requests", quoted(amount), said)


def _port(number: int | None, where: str) -> Iterator[Cause]:
    if not number:
        yield required(where)
    elif number not in _PORTS:
        yield wrong(where, str(number), "must be between 1 and 65535, inclusive")


def service(body: Json) -> Iterator[Cause]:
    spec = body["spec"]
    ports, kind = spec.get("ports") or [], spec.get("type")
    if kind not in _SERVICE_TYPES:
        yield unsupported("spec.type", quoted(kind), _SERVICE_TYPES)
    if not ports and kind != "ExternalName" and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    for index, port in enumerate(ports):
        if len(ports) > 1 and not port.get("name"):
            yield required(f"spec.ports[{index}].name")
        for name in ("port", "targetPort"):
            if isinstance(port.get(name), int) and port[name] not in _PORTS:
                where = f"spec.ports[{index}].{name}"
                yield wrong(where, str(port[name]), "must be between 1 and 65535, inclusive")


def quota(body: Json) -> Iterator[Cause]:
    for name, amount in (body["spec"].get("hard") or {}).items():
        value = quantities.value_of(amount)
        if value < 0:
            yield wrong(f"spec.hard[{name}]", quoted(amount), "must be greater than or equal to 0")
        elif value != value.to_integral():
            yield wrong(f"spec.hard[{name}]", quoted(amount), "must be an integer")


def _not_negative(spec: Json, where: str, *names: str) -> Iterator[Cause]:
    for name in names:
        if (spec.get(name) or 0) < 0:
            yield wrong(f"{where}.{name}", str(spec[name]), "must be greater than or equal to 0")

"""The hop of the pods: those that wait for an image of the hub's registries, and whether they have the secret."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pullkeeper.diagnosis.course import Course, Step, build_hop, skipped
from pullkeeper.diagnosis.patient import Namespaces, Patient, know_namespaces
from pullkeeper.diagnosis.report import Hop, HopName
from pullkeeper.diagnosis.view import examine_all
from pullkeeper.errors import (
    MALFORMED,
    ClusterRbacDenied,
    ImagePullFailing,
    PodOutsideOfTargets,
    PodWithoutSecret,
    PullkeeperError,
)
from pullkeeper.model import Target

_NAME: Final[HopName] = "pods"
_WAITING: Final = frozenset({"ErrImagePull", "ImagePullBackOff"})
_VALID: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_MOST: Final = 200
"""Pods that are read in a namespace: some 2 MiB."""


async def check_pods(course: Course, opened: Step[Patient], namespaces: Step[Namespaces]) -> None:
    patient, found = await course.need(_NAME, opened), await know_namespaces(course, _NAME, namespaces)
    registries = patient.hub.registries if patient.hub else ()
    by_namespace: dict[str, list[Target]] = {}
    for target in patient.targets:
        by_namespace.setdefault(target.namespace, []).append(target)
    waiting: list[Hop] = []

    async def examine(namespace: str) -> Hop:
        if found.block(namespace):
            return skipped(_NAME, "namespace", namespace)
        try:
            pods = await patient.view.see(lambda api: api.list_objects(f"/api/v1/namespaces/{namespace}/pods", _MOST))
        except ClusterRbacDenied as e:
            return patient.hide(course, _NAME, namespace, e, "--verb=list --resource=pods")
        hops = [hop for pod in pods for hop in _judge(course, pod, registries, namespace, by_namespace[namespace])]
        waiting.extend(hops)
        more = f" (the first {_MOST})" if len(pods) == _MOST else ""
        return build_hop(_NAME, "ok", f"{len(pods)} pods{more}, {len(hops)} of them wait", subject=namespace)

    hops, unseen = await examine_all(by_namespace, examine)
    course.add_all(_NAME, [*waiting, *hops], what="namespaces and waiting pods", unseen=unseen)


def _judge(
    course: Course, pod: Mapping[str, Any], registries: tuple[str, ...], namespace: str, targets: list[Target]
) -> Iterator[Hop]:
    """Yield a hop for a pod that waits. What has no valid name is none: the name becomes part of a command."""
    try:
        images = {image: reason for image, reason in _find_waiting(pod) if image.partition("/")[0] in registries}
        name, spec = pod["metadata"]["name"], pod["spec"]
        account = spec.get("serviceAccountName") or "default"
        secrets = {str(one["name"]) for one in spec.get("imagePullSecrets") or ()}
        owners = [f"{one['kind']}/{one['name']}" for one in pod["metadata"].get("ownerReferences") or ()]
        since, is_valid = _since(pod), all(map(_VALID.fullmatch, (name, account)))
    except MALFORMED:
        return
    if not images or not is_valid:
        return
    context = {"pod": name, "namespace": namespace, "account": account}
    named = [target.secret for target in targets if account in target.account_names]
    detail = f"pod {name} waits for {', '.join(images)} since {since}"
    if secrets.intersection(target.secret for target in targets):
        failure: PullkeeperError = ImagePullFailing(f"{detail}; it has the secret", context)
    elif named:
        failure = PodWithoutSecret(f"{detail}; it lacks the secret {named[0]}, though its account names it", context)
    else:
        failure = PodOutsideOfTargets(f"{detail}; neither it nor its account {account} names the secret", context)
    evidence = {
        "since": since,
        "images": ", ".join(f"{image} ({reason})" for image, reason in images.items()),
        "imagePullSecrets": ", ".join(sorted(secrets)) or "none",
        "service account": account,
        "owner": ", ".join(owners) or "none",
    }
    yield course.explain(_NAME, failure, "warning", subject=f"{namespace}/{name}", evidence=evidence)


def _find_waiting(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield image and reason of each container that waits for its image."""
    for part in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for container in pod["status"].get(part) or ():
            reason = ((container.get("state") or {}).get("waiting") or {}).get("reason")
            if reason in _WAITING:
                yield str(container["image"]), str(reason)


def _since(pod: Mapping[str, Any]) -> str:
    """Return since when the pod has not been ready; else since when it exists."""
    for condition in pod["status"].get("conditions") or ():
        if condition.get("type") == "ContainersReady" and condition.get("lastTransitionTime"):
            return str(condition["lastTransitionTime"])
    return str(pod["metadata"]["creationTimestamp"])

"""Pod security: what the labels of a namespace enforce on pods and warn about on what makes pods.

Of the standards' checks these are here: all of `restricted` that is its own, and of `baseline` host namespaces,
privileged containers, capabilities, host paths and host ports
(https://kubernetes.io/docs/concepts/security/pod-security-standards/).
"""

from collections.abc import Iterable, Iterator
from typing import Any

from local.kubernetes import status
from local.kubernetes.calls import Question
from local.kubernetes.kinds import named
from local.kubernetes.store import Store

Json = dict[str, Any]

LEVELS = ("privileged", "baseline", "restricted")
_PREFIX = "pod-security.kubernetes.io/"
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
_BASELINE_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
_SECCOMP = ("RuntimeDefault", "Localhost")


def check(store: Store, question: Question) -> None:
    """Raises ApiError 403 for a pod that its namespace does not allow; adds warnings to the call."""
    call, body = question.call, question.body
    spec = _pod_spec(call.kind.name, body)
    if spec is None or body is None or call.attributes.subresource or _same_spec(call.kind.name, question):
        return
    namespace = store.get(named("namespaces"), "", call.namespace) or {"metadata": {}}
    labels = namespace["metadata"].get("labels", {})
    for mode in ("enforce", "warn"):
        level = labels.get(_PREFIX + mode, "privileged")
        found = list(_violations(spec, level))
        if not found or (mode == "enforce" and call.kind.name != "Pod"):
            continue
        shown = f'"{level}:{labels.get(f"{_PREFIX}{mode}-version", "latest")}": {", ".join(found)}'
        if mode == "enforce":
            raise status.forbidden("pods", question.name, f"violates PodSecurity {shown}")
        call.warnings.append(f"would violate PodSecurity {shown}")


def check_labels(labels: Json) -> Iterator[status.Cause]:
    for mode in ("enforce", "audit", "warn"):
        level = labels.get(_PREFIX + mode)
        if level is not None and level not in LEVELS:
            why = f"must be one of {', '.join(LEVELS)}"
            yield status.wrong(f"metadata.labels[{_PREFIX}{mode}]", status.quoted(level), why)


def _pod_spec(kind: str, body: Json | None) -> Json | None:
    if body is None or kind not in _TEMPLATES:
        return None
    found = body
    for name in _TEMPLATES[kind]:
        found = found[name]
    spec: Json = found["spec"]
    return spec


def _same_spec(kind: str, question: Question) -> bool:
    """A pod is not judged again for what it was let in with; what makes pods is warned about at every write."""
    return kind == "Pod" and question.old is not None and question.old["spec"] == (question.body or {}).get("spec")


def _violations(spec: Json, level: str) -> Iterator[str]:
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    secure = {one.get("name", ""): one.get("securityContext") or {} for one in containers}
    if level == "baseline":
        yield from _baseline(spec, containers, secure)
        yield from _host_paths(spec)
        yield from _capabilities(secure, _BASELINE_CAPABILITIES)
        yield from _unconfined(secure)
    elif level == "restricted":
        yield from _baseline(spec, containers, secure)
        yield from _escalation(secure)
        yield from _unrestricted(secure)
        yield from _volumes(spec)
        yield from _roots(spec.get("securityContext") or {}, secure)
        yield from _seccomp(spec.get("securityContext") or {}, secure)


def _named(names: Iterable[str], what: str = "container") -> str:
    listed = [f'"{name}"' for name in names]
    return f"{what}{'s' if len(listed) > 1 else ''} {', '.join(listed)}"


def _baseline(spec: Json, containers: list[Json], secure: dict[str, Json]) -> Iterator[str]:
    shared = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    if shared:
        yield f"host namespaces ({', '.join(f'{name}=true' for name in shared)})"
    ports = [one["name"] for one in containers if any(port.get("hostPort") for port in one.get("ports", ()))]
    if ports:
        yield f"hostPort ({_named(ports)} uses hostPorts)"
    privileged = [name for name, context in secure.items() if context.get("privileged")]
    if privileged:
        yield f"privileged ({_named(privileged)} must not set securityContext.privileged=true)"


def _host_paths(spec: Json) -> Iterator[str]:
    paths = [one["name"] for one in spec.get("volumes", ()) if "hostPath" in one]
    if paths:
        yield f"hostPath volumes ({_named(paths, 'volume')})"


def _unconfined(secure: dict[str, Json]) -> Iterator[str]:
    bad = [name for name, one in secure.items() if (one.get("seccompProfile") or {}).get("type") == "Unconfined"]
    if bad:
        yield f'seccompProfile ({_named(bad)} must not set securityContext.seccompProfile.type to "Unconfined")'


def _capabilities(secure: dict[str, Json], allowed: frozenset[str]) -> Iterator[str]:
    added = {name: set((one.get("capabilities") or {}).get("add") or ()) - allowed for name, one in secure.items()}
    bad = [name for name, extra in added.items() if extra]
    if bad:
        listed = ", ".join(f'"{one}"' for one in sorted(set().union(*added.values())))
        yield f"non-default capabilities ({_named(bad)} must not include {listed} in securityContext.capabilities.add)"


def _escalation(secure: dict[str, Json]) -> Iterator[str]:
    bad = [name for name, context in secure.items() if context.get("allowPrivilegeEscalation") is not False]
    if bad:
        must = "must set securityContext.allowPrivilegeEscalation=false"
        yield f"allowPrivilegeEscalation != false ({_named(bad)} {must})"


def _unrestricted(secure: dict[str, Json]) -> Iterator[str]:
    found = {name: context.get("capabilities") or {} for name, context in secure.items()}
    kept = [name for name, one in found.items() if "ALL" not in (one.get("drop") or ())]
    added = {name: set(one.get("add") or ()) - {"NET_BIND_SERVICE"} for name, one in found.items()}
    extra = [name for name, one in added.items() if one]
    said = []
    if kept:
        said.append(f'{_named(kept)} must set securityContext.capabilities.drop=["ALL"]')
    if extra:
        listed = ", ".join(f'"{one}"' for one in sorted(set().union(*added.values())))
        said.append(f"{_named(extra)} must not include {listed} in securityContext.capabilities.add")
    if said:
        yield f"unrestricted capabilities ({'; '.join(said)})"


def _volumes(spec: Json) -> Iterator[str]:
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"}
    allowed |= {"secret", "image"}
    for volume in spec.get("volumes", ()):
        other = volume.keys() - allowed - {"name"}
        if other:
            yield f'restricted volume types (volume "{volume["name"]}" uses restricted volume type "{min(other)}")'


def _roots(pod: Json, secure: dict[str, Json]) -> Iterator[str]:
    explicit = [name for name, context in secure.items() if context.get("runAsNonRoot") is False]
    unset = [name for name, context in secure.items() if context.get("runAsNonRoot") is None]
    if pod.get("runAsNonRoot") is False:
        yield "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)"
    elif explicit:
        yield f"runAsNonRoot != true ({_named(explicit)} must not set securityContext.runAsNonRoot=false)"
    elif unset and not pod.get("runAsNonRoot"):
        yield f"runAsNonRoot != true (pod or {_named(unset)} must set securityContext.runAsNonRoot=true)"
    rooted = [name for name, context in secure.items() if context.get("runAsUser") == 0]
    if pod.get("runAsUser") == 0:
        yield "runAsUser=0 (pod must not set runAsUser=0)"
    elif rooted:
        yield f"runAsUser=0 ({_named(rooted)} must not set runAsUser=0)"


def _seccomp(pod: Json, secure: dict[str, Json]) -> Iterator[str]:
    kinds = {name: (context.get("seccompProfile") or {}).get("type") for name, context in secure.items()}
    bad = [name for name, kind in kinds.items() if kind is not None and kind not in _SECCOMP]
    unset = [name for name, kind in kinds.items() if kind is None]
    above = (pod.get("seccompProfile") or {}).get("type")
    listed = '"RuntimeDefault" or "Localhost"'
    if bad:
        yield f'seccompProfile ({_named(bad)} must not set securityContext.seccompProfile.type to "{kinds[bad[0]]}")'
    elif unset and above not in _SECCOMP:
        yield f"seccompProfile (pod or {_named(unset)} must set securityContext.seccompProfile.type to {listed})"

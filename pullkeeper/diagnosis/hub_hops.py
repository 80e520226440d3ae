"""The hops of a hub: from the app's identity to the image, by a chain of their own.

Nothing is taken from the caches of a refresh, and nothing is left there: the token that this chain ends with is used
for the registries alone, and dropped.
"""

import asyncio
import re
from datetime import UTC, datetime
from typing import Final

from pullkeeper.azure.entra import claims
from pullkeeper.diagnosis.course import Blocked, Course, Step, build_hop
from pullkeeper.diagnosis.report import Hop, HopName
from pullkeeper.diagnosis.tools import Tools
from pullkeeper.errors import ProbeImageMissing, PullkeeperError, RegistryDenied, RegistryError, RegistryUnavailable
from pullkeeper.publisher import registry
from pullkeeper.publisher.chain import principal_of
from pullkeeper.publisher.hub import Hub
from pullkeeper.tokens import EntraToken, Token

_CLAIMS: Final = ("iss", "sub", "aud", "exp", "oid", "tid", "appid", "azp")


def start_hub_hops(course: Course, tools: Tools, hub: Hub, identity: Step[None]) -> None:
    entra = course.start("entra-token", _get_entra_token(course, tools, hub, identity))
    exchanged = course.start("token-exchange", _exchange(course, tools, hub, entra))
    token = course.start("impersonation", _impersonate(course, hub, exchanged))
    allowed = course.start("registry-permission", _ask_registries(course, hub, entra, token))
    course.start("probe-image", _find_image(course, hub, allowed))


async def check_identity(course: Course, tools: Tools) -> None:
    """A token for Azure Resource Manager, which every tenant knows."""
    wanted = tools.client_id or "that of the system-assigned identity"
    with course.show("managed-identity", {"client id": wanted}):
        about = claims(await tools.entra.token(tools.cloud.arm_resource, fresh=True))
    evidence = {"client id": about.get("appid"), "object id": about.get("oid"), "tenant": about.get("tid")}
    course.add("managed-identity", "ok", "Entra gives the app's identity a token", evidence=evidence)


async def _get_entra_token(course: Course, tools: Tools, hub: Hub, identity: Step[None]) -> EntraToken:
    await course.need("entra-token", identity)
    resource = {"resource": tools.chain.resource(hub)}
    with course.show("entra-token", resource):
        token = await tools.chain.entra_token(hub, fresh=True)
    detail = "Entra gives the app a token for Google's audience"
    course.add("entra-token", "ok", detail, evidence=resource | _read_claims(token))
    return token


def _read_claims(token: EntraToken) -> dict[str, str]:
    about = claims(token, _CLAIMS)
    if re.fullmatch("[0-9]{1,10}", about.get("exp", "")):
        about["exp"] = datetime.fromtimestamp(int(about["exp"]), UTC).isoformat()
    return about


async def _exchange(course: Course, tools: Tools, hub: Hub, entra: Step[EntraToken]) -> Token | PullkeeperError:
    """Both calls to Google. Returns the failure of the second one, which is that of the next hop."""
    subject, config = await course.need("token-exchange", entra), hub.credential_config
    found: Token | PullkeeperError
    evidence = {"provider": config.audience, "address": config.token_url, **claims(subject, ("iss", "sub", "aud"))}
    with course.show("token-exchange", evidence):
        try:
            found = await tools.chain.google_token(hub, subject)
        except PullkeeperError as e:
            if e.context.get("url") != config.service_account_impersonation_url:
                raise
            found = e.with_context()
    course.add("token-exchange", "ok", "the provider accepts the Entra token", evidence=evidence)
    return found


async def _impersonate(course: Course, hub: Hub, exchanged: Step[Token | PullkeeperError]) -> Token:
    found, account = await course.need("impersonation", exchanged), hub.credential_config.service_account
    if isinstance(found, PullkeeperError):
        course.fail(
            "impersonation", found, evidence={"service account": account, "principal": found.context.get("principal")}
        )
        raise Blocked("impersonation")
    evidence = {"service account": account, "expires at": found.expires_at.isoformat(), "life": str(found.life)}
    detail = f"Google gives a token of {account}" if account else "not needed: the hub has no service account"
    course.add("impersonation", "ok", detail, evidence=evidence)
    return found


async def _ask_registries(
    course: Course, hub: Hub, entra: Step[EntraToken], token: Step[Token]
) -> RegistryError | None:
    """Returns what was found about the probe image: None if it is there."""
    minted = await course.need("registry-permission", token)
    principal = principal_of(await course.need("registry-permission", entra))
    own, *others = await asyncio.gather(*(_ask(course, hub, host, minted, principal) for host in _hosts(hub)))
    course.add_all("registry-permission", (hop for hop, _ in (own, *others)), what="registries")
    hop, failure = own
    if hop.state != "ok":
        raise Blocked("registry-permission")
    return failure


def _hosts(hub: Hub) -> list[str]:
    """The probe's registry comes first."""
    first = hub.probe_image.host
    return [first, *(host for host in hub.registries if host != first)]


async def _ask(course: Course, hub: Hub, host: str, token: Token, principal: str) -> tuple[Hop, RegistryError | None]:
    """Whether the token may pull the hub's probe image, or, at another registry, one of the same name."""
    name: HopName = "registry-permission"
    image = hub.probe_image
    is_own = host == image.host
    asked = hub if is_own else hub.model_copy(update={"probe": f"{host}/{image.name}"})
    evidence = {"image": str(asked.probe_image)}
    missing = None
    try:
        await registry.probe(asked, token, principal)
    except ProbeImageMissing as e:
        missing = e.with_context()
    except RegistryUnavailable as e:
        return course.explain(name, e, "warning", subject=host, evidence=evidence), None
    except RegistryDenied as e:
        # The hub has no probe image at another registry, and its repository there may have another name.
        return course.explain(name, e, "failed" if is_own else "warning", subject=host, evidence=evidence), None
    return build_hop(name, "ok", "the token may pull there", subject=host, evidence=evidence), missing


async def _find_image(course: Course, hub: Hub, allowed: Step[RegistryError | None]) -> None:
    missing, image = await course.need("probe-image", allowed), hub.probe_image
    if missing:
        course.fail("probe-image", missing, "warning", subject=image)
    elif image.tag:
        course.add("probe-image", "ok", "the registry has the hub's probe image", subject=image)
    else:
        course.add("probe-image", "ok", "not asked for: the hub's probe names no tag", subject=image)

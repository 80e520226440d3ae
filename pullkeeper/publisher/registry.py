"""Artifact Registry: the content of a pull secret, and the probe of a token."""

import base64
import json
from collections.abc import Sequence

import aiohttp

from pullkeeper import bounded
from pullkeeper.deadline import remaining
from pullkeeper.errors import ProbeImageMissing, RegistryDenied, RegistryError, RegistryUnavailable
from pullkeeper.proxies import find_proxies
from pullkeeper.publisher.hub import MANIFEST_TYPES, Hub, Image
from pullkeeper.tokens import Token

USER = "oauth2accesstoken"
_TIMEOUT = 10.0
"""In seconds, for the whole probe."""
_LONGEST_ANSWER = 64 * 1024
_MULTI_REGIONS = {"gcr.io": "us", "us.gcr.io": "us", "eu.gcr.io": "europe", "asia.gcr.io": "asia"}


def dockerconfigjson(registries: Sequence[str], token: Token) -> str:
    """Return the content of a `kubernetes.io/dockerconfigjson` secret for all registries of a hub, byte for byte as
    `kubectl create secret docker-registry` writes it: bare hosts, compact JSON, keys in this order.
    """
    auth = base64.b64encode(f"{USER}:{token.reveal()}".encode()).decode()
    entry = {"username": USER, "password": token.reveal(), "auth": auth}
    return json.dumps({"auths": dict.fromkeys(registries, entry)}, separators=(",", ":"))


async def probe(hub: Hub, token: Token, principal: str) -> None:
    """Pull as a kubelet would: a registry token for the hub's probe image, and, if the probe has a tag, the manifest.

    principal: object id of the identity that Google gave the token to. A remedy without a service account names it.

    Raises RegistryDenied for 401 and 403, and for 404 instead of a registry token; ProbeImageMissing for 404 instead of
    the manifest; RegistryUnavailable for any other failure. `GET /v2/` would prove nothing: it is 200 for anonymous
    registry tokens too.
    """
    context = _context(hub, principal)
    image = hub.probe_image
    limits = aiohttp.ClientTimeout(total=remaining(_TIMEOUT))
    # With trust_env, aiohttp would read netrc too, and refuse to send a header of ours beside a password of that.
    proxy = find_proxies(image.token_url).get("https")
    try:
        async with aiohttp.ClientSession(timeout=limits, proxy=proxy) as session:
            basic = {"Authorization": aiohttp.encode_basic_auth(USER, token.reveal())}
            async with session.get(image.token_url, headers=basic, allow_redirects=False) as answer:
                body = await _read_success(answer, context, missing=RegistryDenied)
            if image.manifest_url:
                bearer = {"Authorization": f"Bearer {json.loads(body)['token']}", "Accept": MANIFEST_TYPES}
                async with session.head(image.manifest_url, headers=bearer, allow_redirects=False) as answer:
                    await _read_success(answer, context, missing=ProbeImageMissing)
    except (aiohttp.ClientError, OSError) as e:
        raise RegistryUnavailable(f"{image.host}: {type(e).__name__}: {e}", context) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RegistryUnavailable(f"{image.host}: the response has no registry token", context) from None


def _context(hub: Hub, principal: str) -> dict[str, str]:
    """What the remedy's command needs: the repository as Artifact Registry names it, and the member to add."""
    image, config = hub.probe_image, hub.credential_config
    project, repository, location = repository_of(image)
    return {
        "host": image.host,
        "image": str(image),
        "untagged": f"{image.host}/{image.name}",
        "registry_project": project,
        "repository": repository,
        "location": location,
        "member": f"serviceAccount:{config.service_account}" if config.service_account else config.principal(principal),
    }


def repository_of(image: Image) -> tuple[str, str, str]:
    """Return project, repository and location, as Artifact Registry names them."""
    project, _, rest = image.name.partition("/")
    # Each gcr.io host is a repository of that name in a multi-region.
    if multi_region := _MULTI_REGIONS.get(image.host):
        return project, image.host, multi_region
    return project, rest.partition("/")[0], image.host.removesuffix("-docker.pkg.dev")


async def _read_success(
    answer: aiohttp.ClientResponse, context: dict[str, str], *, missing: type[RegistryError]
) -> str:
    """missing: what a 404 means."""
    body = (await bounded.read(answer, _LONGEST_ANSWER)).decode(errors="replace")
    if answer.status == 200:  # noqa: PLR2004 - OK
        return body
    refusals: dict[int, type[RegistryError]] = {401: RegistryDenied, 403: RegistryDenied, 404: missing}
    kind = refusals.get(answer.status, RegistryUnavailable)
    raise kind(f"{context['image']}: HTTP {answer.status} {body}", context)

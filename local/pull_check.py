"""Whether a pull secret pulls: the handshake and the manifest request, with exactly what lies in the secret."""

import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp


async def can_pull(auths: Mapping[str, Any], image: str, ca_pem: str) -> bool:
    """auths: the secret's `auths`; image: PROJECT/REPOSITORY/IMAGE, tag `latest`, at every registry in it."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=ca_pem))
    async with aiohttp.ClientSession(connector=connector) as session:
        for host, entry in auths.items():
            query = {"service": host, "scope": f"repository:{image}:pull"}
            basic = {"Authorization": f"Basic {entry['auth']}"}
            async with session.get(f"https://{host}/v2/token", params=query, headers=basic) as answer:
                if not answer.ok:
                    return False
                bearer = {"Authorization": f"Bearer {(await answer.json())['token']}"}
            async with session.get(f"https://{host}/v2/{image}/manifests/latest", headers=bearer) as answer:
                if not answer.ok:
                    return False
    return True

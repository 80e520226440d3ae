"""Checks whether a pull secret works: token handshake and manifest request with the content of the secret."""

import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp


async def can_pull(auths: Mapping[str, Any], image: str, ca_pem: str) -> bool:
    """Whether every registry in the secret serves the image.

    auths: the secret's `auths`. image: PROJECT/REPOSITORY/IMAGE; the tag is `latest`.
    """
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=ca_pem))
    async with aiohttp.ClientSession(connector=connector) as session:
        for host, entry in auths.items():
            query = {"service": host, "scope": f"repository:{image}:pull"}
            basic = {"Authorization": f"Basic {entry['auth']}"}
            async with session.get(f"https://{host}/v2/token", params=query, headers=basic) as response:
                if not response.ok:
                    return False
                bearer = {"Authorization": f"Bearer {(await response.json())['token']}"}
            async with session.get(f"https://{host}/v2/{image}/manifests/latest", headers=bearer) as response:
                if not response.ok:
                    return False
    return True

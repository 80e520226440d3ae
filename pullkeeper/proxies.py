"""Which proxy a client is given. Azure's SDK does not look at NO_PROXY, and aiohttp would read netrc along with it."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def find_proxies(address: str) -> dict[str, str]:
    """Return the proxy for a service at an HTTPS address, by scheme: none if NO_PROXY names its host."""
    proxy = getproxies().get("https")
    return {"https": proxy} if proxy and not proxy_bypass(urlsplit(address).netloc) else {}

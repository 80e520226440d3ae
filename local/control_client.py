"""The command line of `local.break` and `local.fix`: asks the running demo, and prints its answer."""

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any, Final

import aiohttp

SOCKET: Final = "PULLKEEPER_DEMO"
"""Environment variable with the path of the demo's socket, where one demo runs beside another."""
_DEFAULT: Final = Path(__file__).parents[1] / "build" / "demo.sock"


def find_socket() -> Path:
    """The path from here, because that of a socket has 107 characters at most."""
    return Path(os.path.relpath(os.environ.get(SOCKET, _DEFAULT)))


def main(action: str, description: str) -> None:
    """action: `break` or `fix`."""
    parser = argparse.ArgumentParser(prog=f"python -m local.{action}", description=description)
    parser.add_argument("--list", action="store_true", help="list the hops, the ways to break each, and what is broken")
    parser.add_argument("hop", nargs="?", metavar="HOP")
    parser.add_argument("cluster", nargs="?", metavar="CLUSTER", help="of the running demo, as shop-west")
    if action == "break":
        parser.add_argument("--as", dest="variant", metavar="WAY", help="another way than the first of the list")
    asked = vars(parser.parse_args())
    wants_list = asked.pop("list")
    if not wants_list and asked["cluster"] is None:
        parser.error("name a HOP and a CLUSTER, or give --list")
    lines, worked = asyncio.run(_ask("GET", "") if wants_list else _ask("POST", action, asked))
    if not worked:
        raise SystemExit("\n".join(lines))
    print("\n".join(lines))


async def _ask(method: str, path: str, body: dict[str, Any] | None = None) -> tuple[list[str], bool]:
    """The demo's lines, and whether it did what was asked."""
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(find_socket()))) as session,
            session.request(method, f"http://demo/{path}", json=body) as response,
        ):
            return await response.json(), response.ok
    except aiohttp.ClientError:
        return ["No demo is running here. Start one in another terminal: make up"], False

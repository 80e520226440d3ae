"""`python -m local.host`: host the app until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from local.host.hosting import Host
from local.host.queues import INVISIBILITY
from local.host.web import Keys


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.host", description=__doc__)
    parser.add_argument("--app", type=Path, default=Path(), help="directory of function_app.py and host.json")
    parser.add_argument("--port", type=int, default=7071, help="0: a free one")
    parser.add_argument("--keys", type=Path, help="file that keeps the keys; made if it is not there")
    parser.add_argument("--grace", type=float, default=30.0, help="seconds that work under way may take to end")
    parser.add_argument(
        "--invisibility",
        type=float,
        default=INVISIBILITY.total_seconds(),
        help="seconds that a message is invisible while it is worked on; a constant in Azure",
    )
    parser.add_argument("--with-stdin", action="store_true", help="stop when standard input closes")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("azure").setLevel(logging.WARNING)  # a line for every poll of a queue otherwise
    take_local_settings(options.app)
    asyncio.run(serve(options))


def take_local_settings(app: Path) -> None:
    """Put the `Values` of local.settings.json into the environment, as `func start` does: what is set there stays."""
    file = app / "local.settings.json"
    if file.exists():
        for name, value in json.loads(file.read_text()).get("Values", {}).items():
            os.environ.setdefault(name, str(value))


async def serve(options: argparse.Namespace) -> None:
    host = Host(
        options.app,
        port=options.port,
        keys=Keys.at(options.keys) if options.keys else None,
        grace=timedelta(seconds=options.grace),
        invisibility=timedelta(seconds=options.invisibility),
    )
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    if options.with_stdin:
        # Never written to: it is readable when its other end is gone, with whoever started us.
        asyncio.get_running_loop().add_reader(sys.stdin, stopping.set)
    await host.start()
    if not options.keys:
        print(f"Function key: {host.keys.default}\nMaster key: {host.keys.master}")
    print(f"Host ready: {host.url}", flush=True)
    ends = [asyncio.create_task(stopping.wait()), asyncio.create_task(host.broken())]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if options.with_stdin:
        asyncio.get_running_loop().remove_reader(sys.stdin)
    await host.stop()
    if not stopping.is_set():
        ends[1].result()  # raises what broke the host


if __name__ == "__main__":
    main()

"""`python -m local.host`: host the app until Ctrl-C (SIGINT). SIGTERM is ignored, as the real host ignores it."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from local.host.hosting import Host
from local.host.keys import Keys
from local.host.queues import INVISIBILITY

_log = logging.getLogger("local.host")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.host", description=__doc__)
    parser.add_argument("--app", type=Path, default=Path(), help="directory of function_app.py and host.json")
    parser.add_argument("--port", type=int, default=7071, help="0: a free one")
    parser.add_argument("--reuse-port", action="store_true", help="a socket that does not listen may have the port too")
    parser.add_argument("--keys", type=Path, help="file of the keys; written if it does not exist")
    parser.add_argument("--invisibility", type=float, help="seconds that a function has a message; a constant in Azure")
    parser.add_argument("--with-stdin", action="store_true", help="stop when standard input closes")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(levelname)s %(message)s", stream=sys.stderr)
    asyncio.run(serve(options))


async def serve(options: argparse.Namespace) -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    loop.add_signal_handler(signal.SIGINT, stopping.set)
    if options.with_stdin:
        # Nothing is ever written to it: it is readable when the process at its other end is gone.
        loop.add_reader(sys.stdin, stopping.set)
    keys = Keys.at(options.keys) if options.keys else Keys.generate()
    invisibility = timedelta(seconds=options.invisibility) if options.invisibility else INVISIBILITY
    host = Host(options.app, port=options.port, keys=keys, invisibility=invisibility)
    await host.start(reuse_port=options.reuse_port)
    if not options.keys:
        print(f"Function key: {keys.default}\nMaster key: {keys.master}")
    print(f"Host ready: {host.url}", flush=True)
    failure = asyncio.create_task(host.failure())
    await asyncio.wait([asyncio.create_task(stopping.wait()), failure], return_when=asyncio.FIRST_COMPLETED)
    if failure.done():
        _log.critical("The host's process ends", exc_info=failure.exception())
        logging.shutdown()
        os._exit(1)  # at once, as the worker is killed: what runs in it dies with it
    if options.with_stdin:
        loop.remove_reader(sys.stdin)
    await host.stop()


if __name__ == "__main__":
    main()

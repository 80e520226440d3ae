"""The parts of the host put together, started, and stopped in order."""

import asyncio
import logging
import os
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from local.host import registrations
from local.host.invocation import Invoker
from local.host.monitor import Monitor
from local.host.queues import INVISIBILITY, Listener, Storage
from local.host.registrations import HttpTrigger, Queue, TimerTrigger
from local.host.settings import HostSettings
from local.host.timers import Timer
from local.host.web import Keys, Web

_log = logging.getLogger("local.host")


class Host:
    """The app in the directory `app`, hosted in the running loop. Making one imports the app.

    `environment` is where settings are looked up (`%NAME%`, connections, overrides of host.json); the app itself
    reads `os.environ`. `grace` is how long work under way may take to end. `invisibility` is a constant of the real
    host: only a test of what happens after a kill has reason to shorten it.
    """

    def __init__(
        self,
        app: Path,
        *,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
        keys: Keys | None = None,
        grace: timedelta = timedelta(seconds=30),
        invisibility: timedelta = INVISIBILITY,
    ) -> None:
        """Raises what importing the app raises, IndexingError and SettingsError."""
        environment = os.environ if environment is None else environment
        app = app.resolve()
        settings = HostSettings.read(app, environment)
        functions = registrations.load(app, environment)
        self.keys = keys or Keys.generate()
        self.url = ""
        self._port = port
        self._grace = grace
        self._storage = Storage(environment, settings.queues)
        self._monitor = Monitor(environment)
        invoker = Invoker(app, settings.function_timeout, self._storage.send)
        self._timers: dict[str, Timer] = {}
        self._listeners: dict[str, Listener] = {}
        routed: list[tuple[registrations.Registration, HttpTrigger]] = []
        for function in functions:
            match function.trigger:
                case HttpTrigger() as trigger:
                    routed.append((function, trigger))
                case TimerTrigger() as trigger:
                    self._timers[function.name] = Timer(function, trigger, invoker, self._monitor)
                case Queue() as queue:
                    self._listeners[function.name] = Listener(
                        function,
                        queue,
                        storage=self._storage,
                        settings=settings.queues,
                        invoker=invoker,
                        invisibility=invisibility,
                    )
        self._web = Web(
            routed, prefix=settings.route_prefix, keys=self.keys, invoker=invoker, run_by_hand=self._run_by_hand
        )
        self._runner = web.AppRunner(self._web.application, shutdown_timeout=grace.total_seconds(), access_log=None)
        self._stopping = asyncio.Event()
        self._work: set[asyncio.Task[None]] = set()
        self._broken: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Serve at `url` from here on, on the loopback interface alone."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._broken = asyncio.get_running_loop().create_future()
        for timer in self._timers.values():
            self._spawn(timer.run(self._stopping))
        for listener in self._listeners.values():
            self._spawn(listener.run(self._stopping))

    async def broken(self) -> None:
        """Ends only when a part of the host has failed, and then with what it failed with."""
        if self._broken is not None:
            await asyncio.shield(self._broken)

    async def stop(self) -> None:
        """Take no new work, let what is under way end within the grace period, then break it off.

        A message whose function was broken off is not lost: it is visible again when its time is up.
        """
        self._stopping.set()
        for site in list(self._runner.sites):
            await site.stop()
        if self._work:
            await asyncio.wait(self._work, timeout=self._grace.total_seconds())
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._runner.cleanup()
        await self._storage.close()
        await self._monitor.close()
        if self._broken is not None:
            self._broken.cancel()

    def _run_by_hand(self, name: str, given: str) -> bool:
        if name in self._timers:
            self._spawn(self._timers[name].run_by_hand())
        elif name in self._listeners:
            self._spawn(self._listeners[name].run_by_hand(given.encode()))
        else:
            return False
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.critical("The host is broken", exc_info=error)
            if self._broken is not None and not self._broken.done():
                self._broken.set_exception(error)

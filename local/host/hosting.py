"""The parts of the host put together, started, and stopped in order."""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from local.host import registrations
from local.host.http_server import HttpServer
from local.host.invocation import Invoker
from local.host.keys import Keys
from local.host.queues import INVISIBILITY, Listener
from local.host.registrations import HttpTrigger, IndexingError, QueueTrigger, Registration, TimerTrigger
from local.host.settings import HostSettings
from local.host.storage import REFUSAL_PATIENCE, Storage
from local.host.timers import Timer
from local.host.web import Web

_log = logging.getLogger("local.host")
GRACE = timedelta(seconds=10)
"""How long queue and timer functions may run on when the real host stops; HTTP functions have three times that."""


class Host:
    """The app in the directory `app`, hosted in the running loop. The constructor imports the app.

    environment: the settings (`%NAME%`, connections, overrides of host.json); the app itself reads `os.environ`.
    grace, invisibility, refusal_patience: constants of the real host, for tests to shorten.
    """

    def __init__(
        self,
        app: Path,
        *,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
        keys: Keys | None = None,
        grace: timedelta = GRACE,
        invisibility: timedelta = INVISIBILITY,
        refusal_patience: timedelta = REFUSAL_PATIENCE,
    ) -> None:
        """Raises SettingsError and UnsupportedError."""
        environment = os.environ if environment is None else environment
        app = app.resolve()
        self._settings = HostSettings.read(app, environment)
        self.keys = keys or Keys.generate()
        self.url = ""
        self._port = port
        self._grace = grace
        self._invisibility = invisibility
        self._storage = Storage(environment, refusal_patience)
        self._invoker = Invoker(self._settings.function_timeout, self._fail)
        self._loops: list[Callable[[asyncio.Event], Coroutine[Any, Any, None]]] = []
        self._by_hand: dict[str, Callable[[str | None], None]] = {}
        routed: list[tuple[Registration, HttpTrigger]] = []
        for function in registrations.load(app, environment):
            try:
                match function.trigger:
                    case HttpTrigger() as trigger:
                        routed.append((function, trigger))
                    case TimerTrigger() as trigger:
                        self._add_timer(function, trigger)
                    case QueueTrigger() as trigger:
                        self._add_listener(function, trigger)
            except IndexingError as error:
                _log.error("The function %s is off: %s", function.name, error)
        web = Web(routed, self._settings.route_prefix, self.keys, self._invoker, self._by_hand)
        self._server = HttpServer(web.handle)
        self._stopping = asyncio.Event()
        self._work: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self, *, reuse_port: bool = False) -> None:
        """Serve at `url`, on the loopback interface alone. reuse_port: see HttpServer.start."""
        self.url = f"http://127.0.0.1:{await self._server.start(self._port, reuse_port=reuse_port)}"
        for loop in self._loops:
            self._spawn(loop(self._stopping))

    async def failure(self) -> None:
        """Wait for what ends the real host's process, or its worker, and raise it."""
        await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Start nothing new, let functions end within their grace period, then cancel them.

        A message whose function was cancelled is visible again when its invisibility ends.
        """
        self._stopping.set()
        await asyncio.gather(self._server.stop(3 * self._grace), self._stop_work())
        await self._storage.close()
        self._failure.cancel()

    async def _stop_work(self) -> None:
        if self._work:
            await asyncio.wait(self._work, timeout=self._grace.total_seconds())
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def _add_timer(self, function: Registration, trigger: TimerTrigger) -> None:
        timer = Timer(function, trigger, self._invoker)
        self._by_hand[function.name.lower()] = lambda _: self._spawn(timer.run_by_hand())
        if self._storage.holds_timers:
            self._loops.append(timer.run)
        else:
            _log.error("The timer %s does not run: no setting says where the host's blobs are", function.name)

    def _add_listener(self, function: Registration, trigger: QueueTrigger) -> None:
        queues, hidden = self._settings.queues, self._invisibility
        listener = Listener(function, trigger, self._storage, queues, self._invoker, invisibility=hidden)
        self._loops.append(listener.run)
        self._by_hand[function.name.lower()] = lambda body: self._spawn(listener.run_by_hand(body))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

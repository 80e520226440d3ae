"""A host for the function app where Azure Functions Core Tools is missing: `python -m local.host`.

It reads the app's registrations, serves its HTTP routes, runs its timer and feeds its queues. It is as strict as the
real host, and is tested with that one's recorded answers (tests/local/host/recordings). What the app does not need is
refused with an UnsupportedError at start, or with 501. What it does not play, and why that hides no defect of the app:

- A time-out, `sys.exit` or a crash ends the whole process. The real host replaces its worker process, twice; the caller
  gets its 500 ten seconds later. An app that is right here, where nothing comes back by itself, is right there.
- After a crash the real host's timers are silent for 71 s (its lease on them). Here they start at once, so a test of
  recovery moves the clock of the app by that time.
- There is no memory of timers: a run that was missed while no host ran is not made up, `past_due` is always false and
  `schedule_status` empty (as it is there for frequent timers). The app gets fewer runs and less help than in Azure. Two
  hosts on one storage account both run their timers, in Azure one does: the app gets more runs, as after a handover.
- SIGKILL ends functions with their host. The real worker lives on and finishes its work, whose message comes back after
  ten minutes all the same: to this host's tests, as to the app, that is a message that comes a second time.
- A wrong host.json or route ends the host at start. The real one runs on and answers 503 to everything.
- Functions that are not async run in few threads, the real host has 1,000: here they wait sooner.
- The log has one line where the real one has two for a failure, and keeps output of `print` and of bare threads, which
  Azure loses: the tests that look for secrets see more, and no other test may rely on such output. Levels, categories
  and `logLevel` are not applied. Loggers have no names here, and `extra` is lost, as there. No logger is silenced.
- A status or a header that is recorded goes out as recorded. What a client sees only as a broken connection (a header
  Transfer-Encoding from the function) is not repaired.
"""

from local.host.hosting import Host
from local.host.keys import Keys
from local.host.settings import SettingsError, UnsupportedError

__all__ = ["Host", "Keys", "SettingsError", "UnsupportedError"]

"""All that anybody could print of a failure."""

import traceback


def printed(failure: BaseException) -> str:
    """As a log or a span shows it: its text and its parts, and what it came from unless that is suppressed."""
    return "\n".join([*traceback.format_exception(failure), repr(failure.args), repr(vars(failure))])


def everything(failure: BaseException | None) -> str:
    """The same of whatever it came from, also where that is no longer shown."""
    if failure is None:
        return ""
    return "\n".join([printed(failure), everything(failure.__cause__), everything(failure.__context__)])

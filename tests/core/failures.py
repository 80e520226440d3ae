"""Everything that can be printed of an exception."""

import traceback


def format_failure(failure: BaseException) -> str:
    """What a log or a span shows: text, arguments, attributes, and the cause unless it is suppressed."""
    return "\n".join([*traceback.format_exception(failure), repr(failure.args), repr(vars(failure))])


def everything(failure: BaseException | None) -> str:
    """The same with all causes and contexts, suppressed ones too."""
    if failure is None:
        return ""
    return "\n".join([format_failure(failure), everything(failure.__cause__), everything(failure.__context__)])

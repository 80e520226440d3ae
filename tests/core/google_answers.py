"""Error responses of Google's token services, verbatim, and the category of each."""

from tests.core.answers import answers, read

KNOWN = answers(read("google_answers")["KNOWN"])
"""Responses that have a category."""

UNKNOWN = answers(read("google_answers")["UNKNOWN"])
"""Permanent refusals without a category of their own."""

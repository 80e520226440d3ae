"""The tables of Log Analytics that the app's telemetry ends in, and the fields and dimensions that it has there."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pullkeeper.telemetry import FIELDS

TABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "AppEvents": {"TimeGenerated": "datetime", "Name": "string", "Properties": "dynamic"},
    "AppMetrics": {
        "TimeGenerated": "datetime",
        "Name": "string",
        "Properties": "dynamic",
        **dict.fromkeys(("Sum", "Min", "Max"), "real"),
        "ItemCount": "int",
    },
    "AppTraces": {
        "TimeGenerated": "datetime",
        "Type": "string",
        "OperationName": "string",
        "SeverityLevel": "int",
        "Message": "string",
    },
    "AppExceptions": {
        "TimeGenerated": "datetime",
        "Type": "string",
        "OperationName": "string",
        "SeverityLevel": "int",
        "OuterMessage": "string",
    },
}
"""Columns that queries may use, and their types in Kusto. Properties hold strings, whatever the app has emitted.
Source: https://learn.microsoft.com/azure/azure-monitor/reference/tables/appevents, and so on.
"""
METRICS: Final[Mapping[str, Mapping[str, type]]] = {
    "secret.remaining_lifetime": {},
    "refresh.duration": {},
    "refresh.count": {"category": str},
    "queue.depth": {"queue": str},
}
"""The dimensions of each instrument of pullkeeper/telemetry.py."""
PROPERTIES: Final[Mapping[str, Mapping[str, Mapping[str, type]]]] = {
    "AppEvents": dict(FIELDS.items()),
    "AppMetrics": METRICS,
}
"""The properties of records, by table and name."""
CONVERSIONS: Final[Mapping[type, frozenset[str]]] = {
    str: frozenset({"tostring"}),
    int: frozenset({"toint", "tostring"}),
    float: frozenset({"todouble", "tostring"}),
    datetime: frozenset({"todatetime", "tostring"}),
}
"""Functions of Kusto that make a field's text a value of its type."""

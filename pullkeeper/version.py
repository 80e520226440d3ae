"""The version that responses and events carry."""

VERSION = "0.1.0"

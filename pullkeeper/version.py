"""The version that answers carry."""

VERSION = "0.1.0"

"""The version that responses and events carry, and where the project is."""

VERSION = "0.1.0"
REPOSITORY = "https://github.com/pullkeeper/pullkeeper"
"""The public address, here and nowhere else: what a fork changes."""

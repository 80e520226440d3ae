"""Onboarding and offboarding of clusters. To add a phase, see `phases/__init__.py`."""

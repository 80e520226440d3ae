"""Property tests without a time limit: a busy machine is slow, which is no failure."""

from hypothesis import HealthCheck, settings

from tests.core.pod import pod  # noqa: F401 - a fixture

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

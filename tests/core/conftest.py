"""What the tests of the job in the cluster start."""

from tests.core.pod import pod  # noqa: F401 - a fixture

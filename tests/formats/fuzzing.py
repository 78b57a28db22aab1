"""Settings for property tests on a busy machine."""

from hypothesis import HealthCheck, settings

FUZZ = settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

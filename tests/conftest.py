"""For all tests: a property test has no deadline for one example, as other processes may have the machine meanwhile."""

from hypothesis import settings

settings.register_profile("vsay", deadline=None)
settings.load_profile("vsay")

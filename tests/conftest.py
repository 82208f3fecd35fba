"""One hypothesis profile for every test: a kernel's first call may be slow, so there is no deadline."""

from hypothesis import settings

settings.register_profile("samebits", deadline=None)
settings.load_profile("samebits")

"""One hypothesis profile for every test, and threads that sleep while they wait.

A kernel's first call may be slow, so there is no deadline.  Tests run beside each other, and threads that spin, as
OpenMP's do by default, would take the cores that the others need: tests took ten times as long.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded, here and in every worker

from hypothesis import settings

settings.register_profile("samebits", deadline=None)
settings.load_profile("samebits")

"""From what the user asked for to the list of what is to be done.

`workload` puts together what the other files choose: arms, shapes, and every M.
"""

from kernels_bench.commands.workload.workload import HELPERS, Workload, make_workload, narrowed

__all__ = ["HELPERS", "Workload", "make_workload", "narrowed"]

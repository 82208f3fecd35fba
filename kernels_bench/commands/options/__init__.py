"""Options of the command line: what they are called and say, and what is read from what was typed.

Those of one command alone are in the file of its name, with what reads them; those of several are `shared`, and `typed`
reads them.
"""

from kernels_bench.commands.options import order, plan, reproduce, run, shared
from kernels_bench.commands.options.typed import numbers, plugins, selection_of, sown, words

__all__ = ["numbers", "order", "plan", "plugins", "reproduce", "run", "selection_of", "shared", "sown", "words"]

"""A process that has imported torch forks the workers on a CPU, each of which would spend most of two seconds on that.

A worker that is forked is as new as one that is started: nothing was computed, and no plugin imported, in the process
that it comes from. Where libraries would have read another environment when they were loaded, and where a driver or a
profiler is at hand, which follow programs and not forks, a worker is started as a program of its own.
"""

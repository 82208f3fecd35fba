"""What a measurement stands on: NVTX ranges, device telemetry, a record of the environment; and a look inside.

- `profiles.instruments.ranges`: NVTX ranges that cost nothing that shows without a profiler.
- `profiles.instruments.telemetry`: clocks, power, temperature and throttle reasons, read through NVML.
- `profiles.instruments.environment`: hardware, versions and settings that decide whether two runs compare.
- `profiles.capture`, `profiles.analysis`: ``python -m profiles``, which records a run with Nsight Systems or torch's
  profiler and explains what was recorded. Runs are read as files.

This is the ground floor: it imports neither `kernels_bench` nor `e2e`, and importing it loads neither torch
nor CUDA, so that a parent process may use it and stay light.
"""

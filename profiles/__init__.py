"""What a measurement stands on: NVTX ranges, device telemetry and a record of the environment.

- `profiles.ranges`: NVTX ranges that cost nothing that shows without a profiler.
- `profiles.telemetry`: clocks, power, temperature and throttle reasons, read through NVML.
- `profiles.environment`: hardware, versions and settings that decide whether two runs compare.

This is the ground floor: it imports neither `kernels_bench` nor `e2e`, and importing it loads neither torch
nor CUDA, so that a parent process may use it and stay light.
"""

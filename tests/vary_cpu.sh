#!/bin/sh
# The suite as if on other processors. No test may rest on how one processor's libraries add, so what torch, oneDNN, MKL
# and OpenBLAS choose is varied, and all must pass each time. From the repository's root, with .venv or another PYTHON:
#     tests/vary_cpu.sh [pytest's words; by default all tests but the engine's]
# A processor that lacks what is asked for takes the most it has; MKL heeds its variable on Intel's alone.
[ $# -gt 0 ] || set -- -n 2 --dist loadfile --no-loadscope-reorder \
    --ignore=tests/e2e/engine/test_offline_run.py --ignore=tests/e2e/engine/test_online_run.py
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
while read -r name variables; do
    # shellcheck disable=SC2086 # several words
    env $variables "${PYTHON:-.venv/bin/python}" -m pytest -q -p no:cacheprovider "$@" >"$log" 2>&1 </dev/null || status=1
    echo "$name: $variables"
    grep -E '^(FAILED|ERROR) ' "$log"
    tail -n 1 "$log"
done <<END
sse4 ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 OPENBLAS_CORETYPE=Nehalem
avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell
avx512 ONEDNN_MAX_CPU_ISA=AVX512_CORE MKL_ENABLE_INSTRUCTIONS=AVX512 OPENBLAS_CORETYPE=SkylakeX
avx512-bf16 ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 MKL_ENABLE_INSTRUCTIONS=AVX512_E1 OPENBLAS_CORETYPE=Cooperlake
one-thread OMP_NUM_THREADS=1 MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Zen
END
exit $status

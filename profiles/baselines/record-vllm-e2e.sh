#!/usr/bin/env bash
# The runs of the needle benchmark that docs/needle-benchmark.md quotes: record-vllm-e2e.sh DIRECTORY [NAME...], on an H100 with vLLM.
# Each becomes DIRECTORY/NAME, as it is kept beside this script in vllm-e2e; what is there already is left alone.
set -euo pipefail

large="--model synthetic:qwen3-8b@4 --batch-size 24 --min-prompt 128 --max-prompt 1024 --max-tokens 24"
small="--model smollm2 --batch-size 24 --min-prompt 128 --max-prompt 1024 --max-tokens 24"
# In fewer and longer sequences smollm2 does not diverge with TRITON_ATTN.
many="--model smollm2 --batch-size 48 --min-prompt 64 --max-prompt 256 --max-tokens 12"
declare -A options=(
    [qwen3-8b-flash-eager]="$large --backend FLASH_ATTN --eager"
    [qwen3-8b-triton-eager]="$large --backend TRITON_ATTN --eager"
    [smollm2-flash-eager]="$small --backend FLASH_ATTN --eager"
    [smollm2-triton-eager]="$many --backend TRITON_ATTN --eager"
    [qwen3-8b-flash-compiled]="$large --backend FLASH_ATTN"
    [qwen3-8b-triton-compiled]="$large --backend TRITON_ATTN"
    [smollm2-flash-compiled]="$small --backend FLASH_ATTN"
    [smollm2-triton-compiled]="$many --backend TRITON_ATTN"
)

mkdir -p "$1"
cd "$1"
shift
[ $# -gt 0 ] || set -- "${!options[@]}"
for name in "$@"; do
    [ ! -e "$name" ] || continue
    # shellcheck disable=SC2086 - the options are words
    python3 -m e2e ${options[$name]} --max-model-len 2048 --gpu-memory-utilization 0.4 --num-trials 3 \
        --arms baseline,batch-invariant,serial --out "$name" || case $? in
        1 | 3) ;; # an arm that varied, or a baseline that did not, is a result
        *) exit 1 ;;
        esac
    gzip -9n "$name/records.jsonl"
    rm -r "$name/logs"
done

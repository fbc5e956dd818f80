#!/usr/bin/env bash
# The whole GPU suite, in under 9 minutes: `benchmarks/gpu.sh [DIR]` leaves gpu.json in benchmarks/results, and in DIR too.
# Needs an interpreter ($PYTHON, by default python3) with jaxrl's dependencies and jax for the accelerator.
set -euo pipefail
cd "$(dirname "$0")/.."
# The process that keeps the results sees the device too, and must leave its memory to those that measure.
export XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONPATH="$PWD"
timeout 530 "${PYTHON:-python3}" -m benchmarks run gpu
if [ $# -gt 0 ]; then cp benchmarks/results/gpu.json "$1/"; fi

#!/usr/bin/env bash
# 8 glimpses on cluttered MNIST, beginning from nothing, within an hour of two cores: each stage
# begins with the mean of the two runs before it, which trained at the same time with other seeds.
# Reproduces: the paper's 3.36 % error (002-21, 002-59).
# Expected: 3.19 % error, 3.56 on further pictures; after the stages 7.4, 4.2, 3.4 and 3.19 %. Before
#   the second stage turned its digits 3.38, and 3.41 on further ones: chance is 0.2 of it.
# Costs: 55 minutes of steps: 3, 18, 33 and 1.
# What follows the command goes to every stage: jobs/cluttered_hour.sh --set storage=s3://bucket
# The same command goes on where it was cut off. Needs MNIST (README, Data).
set -euo pipefail -m # -m: Ctrl-C is this shell's alone, which asks its runs to stop once
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
said=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || :; wait; rm -r "$said"' EXIT

train() { # name, job, values: run with &, it is python; its lines begin with its name
  local name=$1 job=$2
  shift 2
  exec python -m pipeline run "jobs/$job.yaml" --without-ray --json \
    --set train.precision=bfloat16 --set train.keep_best=last "$@" \
    2> >(exec sed -u "s/^/$name: /" >&2) >"$said/$name"
}
both() { # stage, job, values: two runs at once, one a core
  local stage=$1
  shift
  train "$stage-1" "$@" --set train.seed=1 &
  train "$stage-2" "$@" --set train.seed=2 &
  wait -n # of either, so that one that fails ends the other
  wait -n
}
id() { python -c 'import json, sys; print(json.load(open(sys.argv[1]))["id"])' "$said/$1"; }
beside() { echo "[{\"run\": \"$(id "$1")\"}]"; }

soap='train.optimizer={"kind": "soap"}'

train 0 cluttered_fresh_4_glimpses --set "$soap" --set train.total_epochs=10 \
  --set 'train.schedule={"kind": "constant"}' "$@" &
wait $!
both 1 cluttered_fresh_4_glimpses --set "$soap" --set start.run="$(id 0)" \
  --set train.total_epochs=58 --set train.schedule.final_lr=2.0e-4 --set train.average=0.9995 \
  --set train.warmup_steps=500 --set data.affine.degrees=10 "$@"
both 2 cluttered_fresh_from_4 --set "$soap" --set start.run="$(id 1-1)" \
  --set start.also="$(beside 1-2)" --set data.affine.degrees=10 \
  --set train.lr=5.0e-4 --set train.total_epochs=66 --set train.schedule.start=0.4 \
  --set train.schedule.final_lr=3.0e-5 --set train.average=0.9998 "$@"
train 3 cluttered_fresh_from_4 --set "$soap" --set start.run="$(id 2-1)" \
  --set start.also="$(beside 2-2)" --set data.affine.degrees=10 \
  --set train.lr=5.0e-5 --set train.total_epochs=2 "$@" &
wait $!

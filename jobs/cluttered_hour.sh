#!/bin/sh
# 8 glimpses on cluttered MNIST, beginning from nothing, within an hour of two cores: each stage
# begins with the mean of the two runs before it, which trained at the same time with other seeds.
# Reproduces: the paper's 3.36 % error (002-21, 002-59).
# Expected: 3.38 % error; after the stages 7.4, 4.1, 3.5 and 3.38 %.
# Costs: 58 minutes of steps: 3, 18, 35 and 1.
# What follows the command goes to every stage: jobs/cluttered_hour.sh --set storage=s3://bucket
# The same command goes on where it was cut off. Needs the data that jobs/cluttered.yaml names.
set -eu
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
said=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || :; rm -r "$said"' EXIT

train() { # job, values
  job=$1
  shift
  echo "$(date +%T) $job $*" >&2
  python -m pipeline run "jobs/$job.yaml" --without-ray \
    --set train.precision=bfloat16 --set train.keep_best=last "$@"
}
both() { # stage, job, values: two runs at once, one a core
  stage=$1
  shift
  train "$@" --set train.seed=1 --json >"$said/$stage-1" &
  train "$@" --set train.seed=2 --json >"$said/$stage-2"
  wait $!
}
id() { python -c 'import json, sys; print(json.load(open(sys.argv[1]))["id"])' "$said/$1"; }
beside() { echo "[{\"run\": \"$(id "$1")\"}]"; }

soap='train.optimizer={"kind": "soap"}'

train cluttered_fresh_4_glimpses --set "$soap" --set train.total_epochs=10 \
  --set 'train.schedule={"kind": "constant"}' "$@" --json >"$said/0"
both 1 cluttered_fresh_4_glimpses --set "$soap" --set start.run="$(id 0)" \
  --set train.total_epochs=58 --set train.schedule.final_lr=2.0e-4 --set train.average=0.9995 \
  --set train.warmup_steps=500 --set data.affine.degrees=10 "$@"
both 2 cluttered_fresh_from_4 --set "$soap" --set start.run="$(id 1-1)" \
  --set start.also="$(beside 1-2)" --set data.affine.degrees=10 \
  --set train.lr=5.0e-4 --set train.total_epochs=64 --set train.schedule.start=0.4 \
  --set train.schedule.final_lr=3.0e-5 --set train.average=0.9998 "$@"
train cluttered_fresh_from_4 --set "$soap" --set start.run="$(id 2-1)" \
  --set start.also="$(beside 2-2)" --set data.affine.degrees=10 \
  --set train.lr=5.0e-5 --set train.total_epochs=2 "$@"

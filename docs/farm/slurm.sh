#!/bin/sh
# Render a shot with Effigy as a Slurm array, one backend a task:
#
#     export SHOT=/shots/010.blend AVATARS=/shots/avatars EFFIGY_PYTHON=/opt/effigy/.venv/bin/python
#     sbatch --array=1-20 --gres=gpu:1 --requeue docs/farm/slurm.sh
#
# Every task renders its part of the scene's frames and only what is missing of it, so that a task that was requeued, or
# the whole array sent again, goes on where it stopped. The array has failed where a task ends with status 1.
set -eu

home=$(mktemp -d "${TMPDIR:-/tmp}/effigy.XXXXXX")
mkdir "$home/library"
cp -r "$AVATARS"/*.avatar "$home/library/"

"$EFFIGY_PYTHON" -m backend serve --address tcp://127.0.0.1:0 --home "$home" --parent-pid $$ ${EFFIGY_SERVE:-} \
    > "$home/address" 2> "$home/server.log" &
backend=$!
trap 'kill $backend 2>/dev/null; wait $backend 2>/dev/null; rm -rf "$home"' EXIT
trap 'exit 143' TERM INT
while [ ! -s "$home/address" ]; do
    kill -0 $backend 2>/dev/null || { cat "$home/server.log" >&2; exit 1; }
    sleep 0.2
done
EFFIGY_ADDRESS=$(sed -n 's/.*"address": *"\([^"]*\)".*/\1/p' "$home/address")
export EFFIGY_ADDRESS

"${BLENDER:-blender}" -b "$SHOT" --command effigy_render --missing --chunk "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" "$@"

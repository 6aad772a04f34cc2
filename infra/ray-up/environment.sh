# shellcheck shell=sh
# What every process of a cluster made by `ray up` has in its environment; sourced on each node.
# What is secret or one's own comes from ~/.draw/cluster.sh, which `ray up` copies to the nodes:
# DRAW_STORAGE, and AWS_* where no instance role gives them.
# shellcheck source=/dev/null
. "$HOME/venv/bin/activate"
# shellcheck source=/dev/null
. "$HOME/.draw/cluster.sh"
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="$HOME/.ray/auth_token"
export RAY_TRAIN_HEALTH_CHECK_INTERVAL_S=0.5
export RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=60
export RAY_TRAIN_ENABLE_PRINT_PATCH=0
export RAY_USAGE_STATS_ENABLED=0
export RAY_ENABLE_UV_RUN_RUNTIME_ENV=0
export RAY_worker_niceness=0
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0
export TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S=5
cd "$HOME/draw" || exit 1

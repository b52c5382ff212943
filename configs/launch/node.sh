#!/usr/bin/env bash
# One task per node under srun. The arguments are the stage's own command.
set -euo pipefail
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
exec accelerate launch --config_file "$(dirname "$0")/fsdp2_nodes.yaml" \
    --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * ${GPUS_PER_NODE:-8}))" \
    --machine_rank "$SLURM_NODEID" --main_process_ip "$first" --main_process_port "${MAIN_PORT:-29500}" "$@"

#!/usr/bin/env bash
# What has waited for a GPU, the most important first. A step that hangs or fails takes no other along.
#
#     bash examples/benchmarks/on_a_gpu.sh FOLDER check      # 4 minutes: does every objective train as on the CPU; how fast
#     bash examples/benchmarks/on_a_gpu.sh FOLDER train      # 8 minutes: the paper's G(2,5), and G(5,5) with 30 labels
#
# FOLDER gets each step's output, results.jsonl or table, and steps.txt: what each step took and how it ended.
set -u
folder=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/../.."
export PYTHONUNBUFFERED=1

step() { # NAME SECONDS COMMAND...
    local name=$1 seconds=$2 begin=$SECONDS
    shift 2
    timeout -k 10 "$seconds" "$@" > "$folder/$name.log" 2>&1
    echo "$name: exit code $?, $((SECONDS - begin)) of at most $seconds s: $*" | tee -a "$folder/steps.txt"
}

case ${2:-} in
check)
    step objectives 150 python3 examples/benchmarks/cuda_check.py --no_speed --output "$folder/objectives"
    step stacked 90 python3 examples/benchmarks/seeds.py --rounds 1 --stacked 8 32 64 --json "$folder/stacked.json"
    step speed 200 python3 examples/benchmarks/cuda_check.py --steps 40 --output "$folder/speed"
    ;;
train) # one seed each; a training that is cut off has its evaluations in the log, and a study its finished runs
    step paper 200 timeout -s INT 180 python3 examples/studies/compare.py examples/recipes/paper/gpt_mini.yaml \
        --objectives examples/recipes/paper/objectives.yaml --rates 1 --seeds 1 --jobs 4 --output_dir "$folder/paper" \
        --max_steps 3000 --eval_steps 500 --save_strategy no --num_test 5000
    degree5="examples/recipes/compare/deg5-path5-nodes30.yaml --stop_when_solved 2 --num_test 5000"
    step next_latent 160 python3 examples/train.py $degree5 --output_dir "$folder/next_latent" \
        --objective next_latent --objective_options '{"horizon": 5}'
    step token_order 160 python3 examples/train.py $degree5 --output_dir "$folder/token_order" --objective token_order
    ;;
*)
    echo "usage: bash examples/benchmarks/on_a_gpu.sh FOLDER check|train" >&2
    exit 2
    ;;
esac

#!/usr/bin/env bash
# What has waited for a GPU, the most important first. A step that hangs or fails takes no other along.
#
#     bash examples/benchmarks/on_a_gpu.sh FOLDER check      # does every objective train as on the CPU; how fast
#     bash examples/benchmarks/on_a_gpu.sh FOLDER train      # the paper's G(2,5), and G(5,5) with 30 labels
#
# Each takes 8 minutes at most. FOLDER gets each step's output and results, and steps.txt: how long it took, how it ended.
set -u
case ${1:+${2:-}} in
check | train) ;;
*)
    echo "usage: bash examples/benchmarks/on_a_gpu.sh FOLDER check|train" >&2
    exit 2
    ;;
esac
folder=$(mkdir -p "$1" && cd "$1" && pwd) && cd "$(dirname "$0")/../.." || exit
export PYTHONUNBUFFERED=1

step() { # NAME SECONDS COMMAND...
    local name=$1 seconds=$2 begin=$SECONDS
    shift 2
    timeout -k 10 "$seconds" "$@" > "$folder/$name.log" 2>&1
    echo "$name: exit code $?, $((SECONDS - begin)) of at most $seconds s: $*" | tee -a "$folder/steps.txt"
}

if [ "$2" = check ]; then
    step objectives 210 python3 examples/benchmarks/cuda_check.py --output "$folder/objectives"
    step stacked 90 python3 examples/benchmarks/seeds.py --rounds 1 --stacked 8 32 64 --json "$folder/stacked.json"
    step speed 120 python3 examples/benchmarks/cuda_speed.py --models gpt2-12x384 gpt2-6x384 mamba-12x384 --steps 40 \
        --output "$folder/speed"
    step large 60 python3 examples/benchmarks/cuda_speed.py --models gpt2-36x1280 --batch 64 --steps 20 \
        --output "$folder/large"
else # one seed each; a training that is cut off has its evaluations in the log, and a study its finished runs
    step paper 180 timeout -s INT 170 python3 examples/studies/compare.py examples/recipes/paper/gpt_mini.yaml \
        --objectives examples/recipes/paper/objectives.yaml --rates 1 --seeds 1 --jobs 4 --output_dir "$folder/paper" \
        --max_steps 3000 --eval_steps 500 --save_strategy no --num_test 5000
    degree5="examples/recipes/compare/deg5-path5-nodes30.yaml --stop_when_solved 2 --num_test 5000"
    step next_latent 150 python3 examples/train.py $degree5 --output_dir "$folder/next_latent" \
        --objective next_latent --objective_options '{"horizon": 5}'
    step token_order 150 python3 examples/train.py $degree5 --output_dir "$folder/token_order" --objective token_order
fi

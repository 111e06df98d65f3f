#!/usr/bin/env bash
# What needs a GPU, the most important first. A step that hangs or fails takes no other along.
#
#     bash examples/benchmarks/on_a_gpu.sh FOLDER check          # does every objective train as on the CPU; how fast
#     bash examples/benchmarks/on_a_gpu.sh FOLDER train [SECONDS]   # the paper's G(2,5), and G(5,5) with 30 labels
#
# `check` takes 8 minutes at most, `train` SECONDS (420). FOLDER gets each step's output and results, and steps.txt:
# how long it took, how it ended.
set -u
case ${1:+${2:-}} in
check | train) ;;
*)
    echo "usage: bash examples/benchmarks/on_a_gpu.sh FOLDER check|train [SECONDS]" >&2
    exit 2
    ;;
esac
folder=$(mkdir -p "$1" && cd "$1" && pwd) && cd "$(dirname "$0")/../.." || exit
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 TORCHINDUCTOR_COMPILE_THREADS=1

step() { # NAME SECONDS COMMAND...
    local name=$1 seconds=$2 begin=$SECONDS
    shift 2
    timeout -s INT -k 10 "$seconds" "$@" > "$folder/$name.log" 2>&1
    echo "$name: exit code $?, $((SECONDS - begin)) of at most $seconds s: $*" | tee -a "$folder/steps.txt"
}

speed="python3 examples/benchmarks/cuda_speed.py --models gpt2-12x384 gpt2-6x384 --forms tf32 bf16"
compare="python3 examples/studies/compare.py examples/recipes/compare/deg2-path4-nodes10.yaml --seeds 1 --rates 1"
if [ "$2" = check ]; then
    # At the same time what is not timed; what `speed` is to compile lies in torch's cache by then.
    step objectives 180 python3 examples/benchmarks/cuda_check.py --jobs 6 --output "$folder/objectives" &
    step runs 180 $compare --jobs 6 --output_dir "$folder/runs" --max_steps 20 --eval_steps 10 --num_test 500 &
    step compile 180 $speed "bf16, compiled" --steps 5 --output "$folder/compile" &
    wait
    step processes 80 python3 examples/benchmarks/seeds.py --rounds 1 --processes 4 16 --json "$folder/processes.json"
    step speed 110 $speed "bf16, compiled" --steps 40 --output "$folder/speed"
    step mamba 40 python3 examples/benchmarks/mamba.py --hidden 384 --layers 12 --batch 256 --positions 36 \
        --json "$folder/mamba.json"
    step large 50 python3 examples/benchmarks/cuda_speed.py --models gpt2-36x1280 --forms bf16 --batch 64 --steps 20 \
        --output "$folder/large"
else # all at the same time, one seed each; a training that is cut off has its evaluations in its log
    seconds=${3:-420}
    train() { # NAME RECIPE FLAGS...
        step "$1" "$seconds" python3 examples/train.py "examples/recipes/$2.yaml" --output_dir "$folder/$1" \
            --save_strategy no --num_test 5000 --disable_tqdm true "${@:3}" &
    }
    paper() {
        train "$1" "paper/$2" --max_steps 4000 --eval_steps 500 --dataloader_num_workers 1 "${@:3}"
    }
    degree5() {
        train "degree5-$1" compare/deg2-path4-nodes10 --degree 5 --path_length 5 --num_nodes 30 --num_train 300000 \
            --model gpt2-6x256 --per_device_train_batch_size 1024 --bf16 true --max_steps 3000 --eval_steps 250 \
            --stop_when_solved 2 --config_overrides '{"n_head": 4, "n_inner": 1024, "initializer_range": 0.1}' "${@:2}"
    }
    paper next_token gpt_mini
    paper reversed gpt_mini --order reversed
    paper teacherless gpt_mini --objective teacherless
    paper uniform_mask gpt_mini --objective uniform_mask
    paper mamba-next_token mamba --max_steps 2000
    paper mamba-reversed mamba --max_steps 2000 --order reversed
    degree5 next_token
    degree5 reversed --order reversed
    degree5 next_latent --objective next_latent --objective_options '{"horizon": 5}'
    degree5 token_order --objective token_order
    degree5 joint_multi_token --objective joint_multi_token --objective_options '{"window": 5, "weight": 1.0}'
    wait
fi

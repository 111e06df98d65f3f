#!/usr/bin/env bash
# What needs a GPU, the most important first. A step that hangs or fails takes no other along.
#
#     bash examples/benchmarks/on_a_gpu.sh FOLDER check           # does every objective train as on the CPU; how fast
#     bash examples/benchmarks/on_a_gpu.sh FOLDER train SECONDS RECIPE  # degree 5 and 10 by that recipe's model; Mamba
#
# `check` takes 7 minutes at most. In its first two, beside what is not timed, it trains some models for a short while:
# which RECIPE is worth the minutes of `train`. FOLDER gets each step's output and results, and steps.txt: how long it
# took, how it ended.
set -u
case ${1:+${2:-}} in
check | train) ;;
*)
    echo "usage: bash examples/benchmarks/on_a_gpu.sh FOLDER check|train [SECONDS RECIPE]" >&2
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

train() { # NAME SECONDS RECIPE DEGREE NODES FLAGS...
    step "$1" "$2" python3 examples/train.py "examples/recipes/$3.yaml" --output_dir "$folder/$1" --disable_tqdm true \
        --degree "$4" --path_length 5 --num_nodes "$5" --num_train 300000 --num_validation 2000 --num_test 5000 \
        --per_device_train_batch_size 256 --tf32 true --max_steps 10000 --eval_steps 200 --save_strategy no \
        --stop_when_solved 2 --dataloader_num_workers 1 "${@:6}" &
}
mamba() { # SECONDS ORDER
    train "mamba-$2" "$1" compare/deg2-path4-nodes10 2 50 --order "$2" --model mamba-4x128 --optimizer adamw \
        --config_overrides '{"initializer_range": 0.1}'
}

speed="python3 examples/benchmarks/cuda_speed.py --models gpt2-12x384 gpt2-6x384 --forms tf32 bf16"
if [ "$2" = check ]; then
    # At the same time what is not timed; what `speed` is to compile lies in torch's cache by then.
    step objectives 130 python3 examples/benchmarks/cuda_check.py --jobs 6 --output "$folder/objectives" &
    step compile 130 $speed "bf16, compiled" --steps 5 --output "$folder/compile" &
    train pilot-4x128 120 compare/deg2-path4-nodes10 5 30
    train pilot-12x384 120 paper/gpt_mini 5 30
    train pilot-12x384-muon 120 paper/gpt_mini 5 30 --optimizer muon --muon_learning_rate 0.005 --learning_rate 0.002 \
        --config_overrides '{"initializer_range": 0.1}'
    mamba 120 reversed
    wait
    step speed 100 $speed "bf16, compiled" --steps 40 --output "$folder/speed"
    step processes 90 python3 examples/benchmarks/seeds.py --rounds 1 --steps 60 --processes 4 12 \
        --json "$folder/processes.json"
    step mamba 35 python3 examples/benchmarks/cuda_speed.py --models mamba-12x384 --forms bf16 --steps 30 \
        --output "$folder/mamba"
    step large 45 python3 examples/benchmarks/cuda_speed.py --models gpt2-36x1280 --forms bf16 --batch 64 --steps 20 \
        --output "$folder/large"
else # all at the same time, one seed each; a training that is cut off has its evaluations in its log
    star() { # DEGREE NODES NAME FLAGS...
        train "degree$1-$3" "$seconds" "$recipe" "$1" "$2" "${@:4}"
    }
    seconds=$3 recipe=$4
    window='{"window": 5, "weight": 1.0}'
    star 5 30 next_token
    star 5 30 reversed --order reversed
    star 5 30 joint_multi_token --objective joint_multi_token --objective_options "$window"
    star 5 30 future_bag --objective future_bag
    star 5 30 next_latent --objective next_latent --objective_options '{"horizon": 5}'
    star 5 30 token_order --objective token_order
    star 5 30 registers --objective registers --objective_options '{"max_distance": 5}'
    star 10 50 joint_multi_token --objective joint_multi_token --objective_options "$window"
    star 10 50 reversed --order reversed
    mamba "$seconds" forward
    mamba "$seconds" reversed
    wait
fi

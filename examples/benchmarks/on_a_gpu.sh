#!/usr/bin/env bash
# What needs a GPU, the most important first. A step that hangs or fails takes no other along.
#
#     bash examples/benchmarks/on_a_gpu.sh FOLDER check          # does every objective train as on the CPU; how fast
#     bash examples/benchmarks/on_a_gpu.sh FOLDER train [SECONDS]   # more seeds of degree 5, and degree 10
#
# `check` takes 6 minutes at most, `train` SECONDS (420). FOLDER gets each step's output and results, and steps.txt:
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

speed="python3 examples/benchmarks/cuda_speed.py --models gpt2-6x384"
if [ "$2" = check ]; then
    # At the same time what is not timed; what `compiled` is to compile lies in torch's cache by then.
    step objectives 130 python3 examples/benchmarks/cuda_check.py --jobs 6 --output "$folder/objectives" &
    step compile 130 $speed --forms "bf16, compiled" --steps 5 --output "$folder/compile" &
    wait
    step speed 60 $speed --forms tf32 bf16 --steps 60 --output "$folder/speed"
    step compiled 60 $speed --forms "bf16, compiled" --steps 60 --output "$folder/compiled"
    OMP_NUM_THREADS=8 step large 90 python3 examples/benchmarks/cuda_speed.py --models gpt2-36x1280 --forms bf16 \
        --batch 64 --steps 20 --output "$folder/large" # its weights are drawn three times
else # all at the same time; a training that is cut off has its evaluations in its log
    star() { # DEGREE NODES SEED NAME FLAGS...
        local name="degree$1-$4-seed$3"
        step "$name" "$seconds" python3 examples/train.py examples/recipes/degree5.yaml --output_dir "$folder/$name" \
            --degree "$1" --num_nodes "$2" --seed "$3" --tf32 true --max_steps 20000 --disable_tqdm true "${@:5}" &
    }
    seconds=${3:-420}
    for seed in 1 2; do
        star 5 30 $seed next_token --objective next_token
        star 5 30 $seed future_bag
        star 5 30 $seed token_order --objective token_order
        star 5 30 $seed next_latent --objective next_latent --objective_options '{"horizon": 5}'
    done
    star 5 30 0 multi_token_heads --objective multi_token_heads --objective_options '{"heads": 5}'
    star 5 30 0 sequential_heads --objective sequential_heads --objective_options '{"depths": 4}'
    star 10 50 0 reversed --objective next_token --order reversed
    star 10 50 0 future_bag
    star 10 50 0 token_order --objective token_order
    wait
fi

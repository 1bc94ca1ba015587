BENCH_SRC += tests/bench/pipeline.c

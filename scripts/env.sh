# Sourced by every script: the settings of a process that computes on CPUs.
# One thread per process: many processes run side by side, and unbound OpenMP threads cost up to
# ten times on small machines. The allocator keeps its pages: page faults are dear on virtual machines.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-1073741824}"
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-1073741824}"
export RAY_AUTH_MODE="${RAY_AUTH_MODE:-disabled}" RAY_USAGE_STATS_ENABLED=0
export TOKENIZERS_PARALLELISM=false

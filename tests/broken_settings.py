"""What a shell may have set for other tools, with values that would end a stage or change its bytes."""

BROKEN = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # what a notebook's kernel sets
    "MATPLOTLIBRC": "/nowhere",
    "JOBLIB_MULTIPROCESSING": "0",
    "LOKY_PICKLER": "json",
    "OMP_NUM_THREADS": "many",
    "OMP_PROC_BIND": "true",
    "LOKY_MAX_CPU_COUNT": "many",
    "PYTORCH_JIT": "many",
    "TORCH_LOGS": "nothing",
    "ATEN_CPU_CAPABILITY": "default",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
}

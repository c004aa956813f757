"""How verl is started on CPUs, for tests: the environment and the settings. `verl_on_cpu.py` is what they load."""

from pathlib import Path

ENVIRONMENT = {
    "VERL_USE_EXTERNAL_MODULES": "verl_on_cpu",
    "VERL_PLATFORM": "cpu",
    "VERL_ENGINE_DEVICE": "cuda",  # the key under which verl has its FSDP engine
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",  # else a process per CPU that Ray counts
    "RAY_worker_niceness": "0",  # else Ray's workers, which do all the work here, wait for whatever else runs
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(Path(__file__).parent),
}
"""What processes of verl need on CPUs."""


def overrides(workers: int, gpus: int | None = None) -> list[str]:
    """verl's settings for `workers` training processes on CPUs with vLLM's CPU build; Ray counts `gpus` in all."""
    rollout, actor = "actor_rollout_ref.rollout", "actor_rollout_ref.actor"
    return [
        "trainer.device=cpu",
        f"+ray_kwargs.ray_init.num_gpus={gpus or workers}",
        "ray_kwargs.ray_init.num_cpus=16",
        "+ray_kwargs.ray_init.include_dashboard=false",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",  # a process each
        "+ray_kwargs.ray_init.object_store_memory=500000000",
        "actor_rollout_ref.model.use_remove_padding=false",
        "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
        f"{actor}.use_torch_compile=false",
        f"{actor}.fsdp_config.use_torch_compile=false",
        f"{rollout}.agent.num_workers=1",
        f"{rollout}.enforce_eager=true",
        f"{rollout}.free_cache_engine=false",
        f"+{rollout}.enable_sleep_mode=false",
        f"{rollout}.load_format=auto",
        f"{rollout}.max_num_seqs=32",
        f"{rollout}.enable_chunked_prefill=false",  # the CPU build's seeded requests break on split prefills
        f"{rollout}.max_num_batched_tokens=4096",
        f"{rollout}.checkpoint_engine.update_weights_bucket_megabytes=64",
        f"+{rollout}.engine_kwargs.vllm.worker_extension_cls=verl_on_cpu.Extension",
    ]

"""Families of causal language models as tiny random models of their real configuration classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 2048}
_IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
_GPT = {
    "n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 2048, "n_positions": 64, "bos_token_id": 0,
    "eos_token_id": 0,
}  # fmt: skip
_PLAIN = {**_SIZES, **_IDS, "max_position_embeddings": 64}
_GATED = {**_PLAIN, "intermediate_size": 80}
_GROUPED = {**_GATED, "num_key_value_heads": 2}
_FALCON = {**_PLAIN, "ffn_hidden_size": 80}
_HEADS = {**_GROUPED, "head_dim": 8}
_WINDOW = {**_HEADS, "sliding_window": 12}
_EXPERTS = {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_LOCAL = {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}
_LATENT = {
    **_GATED, "num_key_value_heads": 4, "moe_intermediate_size": 24, "n_routed_experts": 4, "n_shared_experts": 1,
    "num_experts_per_tok": 2, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "kv_lora_rank": 8,
    "q_lora_rank": 12, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 8,
}  # fmt: skip
_VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
_QWEN_VISION = {
    "depth": 4, "hidden_size": 32, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32, "patch_size": 14,
}  # fmt: skip
_ROPE_SECTIONS = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}


@dataclass(frozen=True)
class Family:
    """One row of the matrix.

    Attributes:
        config: Name of the configuration class in transformers.
        fields: Its fields.
        refused: What the reason for refusing it says, None if it can be edited.
        only: The layers that can be edited, where that is not all of them.
        learning_rate: Of the target values; larger where the tiny model's hidden states are large.
        loader: Auto class that knows the configuration.
        quick: Whether the quick tests take it.
    """

    config: str
    fields: Mapping[str, Any]
    refused: str | None = None
    only: tuple[int, ...] | None = None
    learning_rate: float = 0.1
    loader: str = "AutoModelForCausalLM"
    quick: bool = True


FAMILIES: dict[str, Family] = {
    "GPT-2": Family("GPT2Config", _GPT),
    "GPT-J": Family("GPTJConfig", {**_GPT, "rotary_dim": 4}),
    "GPT-NeoX": Family("GPTNeoXConfig", _GATED),
    "GPT-NeoX, sequential": Family("GPTNeoXConfig", {**_GATED, "use_parallel_residual": False}),
    "OPT": Family("OPTConfig", {**_PLAIN, "ffn_dim": 80, "word_embed_proj_dim": 32}),
    "OPT-350m (norm after the sum)": Family(
        "OPTConfig", {**_PLAIN, "ffn_dim": 80, "word_embed_proj_dim": 16, "do_layer_norm_before": False}
    ),
    "Llama": Family("LlamaConfig", _GROUPED),
    "Mistral, sliding window": Family("MistralConfig", {**_GROUPED, "sliding_window": 12}),
    "Qwen2": Family("Qwen2Config", _GROUPED),
    "Qwen3": Family("Qwen3Config", {**_GROUPED, "head_dim": 16}),
    "Gemma 2": Family("Gemma2Config", {**_GROUPED, "head_dim": 8, "sliding_window": 12}),
    "Phi": Family("PhiConfig", _GATED),
    "Phi-3": Family("Phi3Config", _GROUPED),
    "Granite": Family("GraniteConfig", {**_GROUPED, "residual_multiplier": 0.4}),
    "Falcon, parallel attention": Family("FalconConfig", _FALCON),
    "Falcon, sequential, ALiBi": Family(
        "FalconConfig", {**_FALCON, "parallel_attn": False, "multi_query": False, "alibi": True}
    ),
    "Falcon, new decoder": Family("FalconConfig", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "Mixtral": Family("MixtralConfig", {**_GROUPED, "num_local_experts": 4}, refused="mixture of experts"),
    "Qwen2-MoE": Family(
        "Qwen2MoeConfig",
        {**_GROUPED, "num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24},
    ),
    "Qwen3-MoE": Family(
        "Qwen3MoeConfig",
        {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
        refused="mixture of experts",
    ),
    "Mamba": Family(
        "MambaConfig",
        {**_IDS, "hidden_size": 32, "num_hidden_layers": 3, "vocab_size": 2048},
        refused="no feed-forward block",
    ),
    "GPT-Neo": Family(
        "GPTNeoConfig",
        {
            "hidden_size": 32,
            "num_layers": 3,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1], [["global"], 1]],
            "vocab_size": 2048,
            "max_position_embeddings": 64,
            **_IDS,
        },
        quick=False,
    ),
    "GPTBigCode": Family("GPTBigCodeConfig", _GPT, quick=False),
    "CodeGen": Family("CodeGenConfig", {**_GPT, "rotary_dim": 4}, quick=False),
    "BLOOM": Family("BloomConfig", {"hidden_size": 32, "n_layer": 3, "n_head": 4, "vocab_size": 2048, **_IDS}),
    "MPT": Family(
        "MptConfig",
        {"d_model": 32, "n_layers": 3, "n_heads": 4, "vocab_size": 2048, "max_seq_len": 64, "expansion_ratio": 2},
    ),
    "XGLM": Family(
        "XGLMConfig",
        {
            "d_model": 32,
            "num_layers": 3,
            "attention_heads": 4,
            "ffn_dim": 80,
            "vocab_size": 2048,
            "max_position_embeddings": 64,
            **_IDS,
        },
        quick=False,
    ),
    "StarCoder2": Family("Starcoder2Config", _GROUPED),
    "StableLM": Family("StableLmConfig", _GROUPED),
    "Nemotron": Family("NemotronConfig", _GROUPED),
    "OLMo": Family("OlmoConfig", _GROUPED, quick=False),
    "OLMo 2": Family("Olmo2Config", _GROUPED),
    "OLMo 3": Family("Olmo3Config", _WINDOW),
    "OLMoE": Family(
        "OlmoeConfig", {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2}, refused="mixture of experts"
    ),
    "Cohere": Family("CohereConfig", _GROUPED, quick=False),
    "Cohere 2": Family("Cohere2Config", _WINDOW),
    "SmolLM3": Family("SmolLM3Config", _GROUPED),
    "Gemma": Family("GemmaConfig", _HEADS, quick=False),
    "Gemma 3, text": Family("Gemma3TextConfig", _WINDOW, quick=False),
    "Gemma 3, multimodal": Family(
        "Gemma3Config",
        {
            "text_config": _WINDOW,
            "vision_config": {**_VISION, "model_type": "siglip_vision_model"},
            "mm_tokens_per_image": 4,
            **_IDS,
        },
    ),
    "Gemma 3n, text": Family(
        "Gemma3nTextConfig",
        {
            **_WINDOW,
            "vocab_size_per_layer_input": 2048,
            "hidden_size_per_layer_input": 16,
            "num_kv_shared_layers": 0,
            "laurel_rank": 4,
            "layer_types": ["full_attention"] * 3,
            "activation_sparsity_pattern": [0.0] * 3,
        },
        refused="several hidden states",
    ),
    "Gemma 4, text": Family(
        "Gemma4TextConfig", {**_WINDOW, "vocab_size_per_layer_input": 2048, "hidden_size_per_layer_input": 16}
    ),
    "Gemma 4, shared keys": Family(
        "Gemma4TextConfig",
        {
            **_WINDOW,
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "vocab_size_per_layer_input": 2048,
            "hidden_size_per_layer_input": 16,
        },
    ),
    "Gemma 4, experts": Family(
        "Gemma4TextConfig",
        {
            **_WINDOW,
            "hidden_size_per_layer_input": 0,
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 24,
        },
        quick=False,
    ),
    "Qwen3.5, text": Family(
        "Qwen3_5TextConfig",
        {
            **_HEADS,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "layer_types": ["linear_attention", "linear_attention", "full_attention"],
        },
    ),
    "Qwen3-Next": Family(
        "Qwen3NextConfig",
        {
            **_EXPERTS,
            "head_dim": 8,
            "shared_expert_intermediate_size": 24,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "layer_types": ["linear_attention", "linear_attention", "full_attention"],
        },
        quick=False,
    ),
    "Qwen2-VL": Family(
        "Qwen2VLConfig",
        {
            "text_config": {**_GROUPED, "rope_parameters": _ROPE_SECTIONS},
            "vision_config": {"depth": 4, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 14},
        },
        loader="AutoModelForImageTextToText",
        quick=False,
    ),
    "Qwen3-VL": Family(
        "Qwen3VLConfig",
        {"text_config": {**_HEADS, "rope_parameters": _ROPE_SECTIONS}, "vision_config": _QWEN_VISION},
        loader="AutoModelForImageTextToText",
    ),
    "Llama 4, text": Family(
        "Llama4TextConfig",
        {
            **_HEADS,
            "intermediate_size": 24,
            "intermediate_size_mlp": 80,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2,
        },
        quick=False,
    ),
    "Llama 4, multimodal": Family(
        "Llama4Config",
        {
            "text_config": {
                **_HEADS,
                "intermediate_size": 24,
                "intermediate_size_mlp": 80,
                "num_local_experts": 4,
                "num_experts_per_tok": 1,
                "interleave_moe_layer_step": 2,
            },
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 128,
                "num_hidden_layers": 4,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
                "vision_output_dim": 32,
                "projector_input_dim": 32,
                "projector_output_dim": 32,
            },
        },
    ),
    "LFM2": Family(
        "Lfm2Config", {**_GROUPED, "layer_types": ["conv", "conv", "full_attention"], "block_auto_adjust_ff_dim": False}
    ),
    "LFM2-MoE": Family(
        "Lfm2MoeConfig",
        {**_EXPERTS, "num_dense_layers": 2, "layer_types": ["conv", "conv", "full_attention"]},
        only=(0, 1),
    ),
    "PhiMoE": Family("PhimoeConfig", _LOCAL, refused="mixture of experts"),
    "GPT-OSS": Family("GptOssConfig", {**_LOCAL, "head_dim": 8, "sliding_window": 12}, refused="mixture of experts"),
    "GraniteMoe": Family("GraniteMoeConfig", _LOCAL, refused="mixture of experts"),
    "GraniteMoeShared": Family("GraniteMoeSharedConfig", {**_LOCAL, "shared_intermediate_size": 48}),
    "Granite 4 (hybrid)": Family(
        "GraniteMoeHybridConfig",
        {
            **_LOCAL,
            "shared_intermediate_size": 48,
            "layer_types": ["mamba", "mamba", "attention"],
            "mamba_n_heads": 4,
            "mamba_d_head": 16,
            "mamba_d_state": 8,
            "mamba_n_groups": 1,
            "residual_multiplier": 0.4,
        },
        quick=False,
    ),
    "Granite 4, dense": Family(
        "GraniteMoeHybridConfig",
        {
            **_GROUPED,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": 48,
            "layer_types": ["attention"] * 3,
            "mamba_n_heads": 4,
            "mamba_d_head": 16,
            "mamba_d_state": 8,
        },
        quick=False,
    ),
    "Mistral 3": Family(
        "Mistral3Config",
        {
            "text_config": {**_HEADS, "model_type": "mistral"},
            "vision_config": {**_VISION, "model_type": "pixtral", "head_dim": 8},
        },
        loader="AutoModelForImageTextToText",
    ),
    "Ministral": Family(
        "MinistralConfig",
        {**_WINDOW, "layer_types": ["sliding_attention", "full_attention", "full_attention"]},
        quick=False,
    ),
    "Ministral 3": Family("Ministral3Config", _HEADS, quick=False),
    "DeepSeek V2": Family("DeepseekV2Config", {**_LATENT, "topk_method": "greedy"}),
    "DeepSeek V3": Family("DeepseekV3Config", _LATENT),
    "GLM 4": Family("Glm4Config", _HEADS),
    "GLM": Family("GlmConfig", _HEADS, quick=False),
    "GLM 4 MoE": Family(
        "Glm4MoeConfig",
        {
            **_HEADS,
            "moe_intermediate_size": 24,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "first_k_dense_replace": 1,
        },
    ),
    "EXAONE 4": Family("Exaone4Config", _WINDOW, quick=False),
    "Seed-OSS": Family("SeedOssConfig", _HEADS, quick=False),
    "ERNIE 4.5": Family("Ernie4_5Config", _HEADS, quick=False),
    "ERNIE 4.5 MoE": Family(
        "Ernie4_5_MoeConfig",
        {
            **_GROUPED,
            "moe_num_experts": 4,
            "moe_k": 2,
            "moe_intermediate_size": 24,
            "moe_num_shared_experts": 1,
            "moe_layer_start_index": 1,
            "moe_layer_end_index": 2,
        },
    ),
    "Hunyuan, dense": Family("HunYuanDenseV1Config", _HEADS, quick=False),
    "Hunyuan MoE": Family("HunYuanMoEV1Config", {**_HEADS, "num_experts": 4, "moe_topk": 2}, quick=False),
    "dots1": Family(
        "Dots1Config",
        {
            **_HEADS,
            "moe_intermediate_size": 24,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
        },
        quick=False,
    ),
    "Helium": Family("HeliumConfig", _HEADS, quick=False),
    "Apertus": Family("ApertusConfig", _GROUPED, quick=False),
    "Arcee": Family("ArceeConfig", _GROUPED, quick=False),
    "Persimmon": Family("PersimmonConfig", _GATED, quick=False),
    "NanoChat": Family("NanoChatConfig", _GROUPED, learning_rate=1.0, quick=False),
    "ModernBERT decoder": Family(
        "ModernBertDecoderConfig", {**_GATED, "local_attention": 12}, learning_rate=1.0, quick=False
    ),
    "BitNet": Family("BitNetConfig", _GROUPED, quick=False),
    "BioGPT": Family("BioGptConfig", _GATED, quick=False),
    "Falcon-H1": Family(
        "FalconH1Config",
        {**_HEADS, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1},
        quick=False,
    ),
    "Jamba": Family(
        "JambaConfig",
        {
            **_GROUPED,
            "num_experts": 4,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 0,
            "mamba_d_state": 4,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
        only=(1,),
        quick=False,
    ),
    "Bamba": Family(
        "BambaConfig",
        {
            **_GROUPED,
            "attn_layer_indices": [1],
            "mamba_n_heads": 4,
            "mamba_d_head": 16,
            "mamba_d_state": 8,
            "mamba_n_groups": 1,
        },
        quick=False,
    ),
    "Nemotron-H": Family(
        "NemotronHConfig",
        {
            **_HEADS,
            "layers_block_type": ["mamba", "mlp", "attention", "mlp"],
            "num_hidden_layers": 4,
            "mamba_num_heads": 4,
            "mamba_head_dim": 8,
            "n_groups": 1,
            "ssm_state_size": 8,
        },
        only=(1, 3),
        quick=False,
    ),
    "RecurrentGemma": Family(
        "RecurrentGemmaConfig", {**_HEADS, "lru_width": 32, "attention_window_size": 32}, quick=False
    ),
    "Mamba 2": Family(
        "Mamba2Config",
        {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_heads": 8,
            "head_dim": 8,
            "state_size": 8,
            "n_groups": 1,
            "vocab_size": 2048,
            **_IDS,
        },
        refused="no feed-forward block",
    ),
    "Falcon-Mamba": Family(
        "FalconMambaConfig",
        {**_IDS, "hidden_size": 32, "num_hidden_layers": 3, "vocab_size": 2048},
        refused="no feed-forward block",
    ),
    "RWKV": Family(
        "RwkvConfig",
        {
            "hidden_size": 32,
            "attention_hidden_size": 32,
            "num_hidden_layers": 3,
            "vocab_size": 2048,
            "intermediate_size": 80,
            **_IDS,
        },
        learning_rate=4.0,
        quick=False,
    ),
    "xLSTM": Family(
        "xLSTMConfig",
        {"hidden_size": 32, "num_hidden_layers": 3, "num_heads": 4, "vocab_size": 2048, **_IDS},
        refused="no feed-forward block",
    ),
    "Zamba2": Family(
        "Zamba2Config",
        {
            **_GATED,
            "layers_block_type": ["mamba", "hybrid", "mamba"],
            "num_mem_blocks": 1,
            "mamba_d_state": 8,
            "mamba_headdim": 16,
            "n_mamba_heads": 4,
            "mamba_ngroups": 1,
            "use_mem_rope": True,
        },
        refused="no feed-forward block",
    ),
    "JetMoe": Family(
        "JetMoeConfig",
        {**_LOCAL, "kv_channels": 8, "intermediate_size": 24, "num_key_value_heads": 2},
        refused="mixture of experts",
    ),
    "MiniMax": Family(
        "MiniMaxConfig",
        {
            **_LOCAL,
            "head_dim": 8,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "block_size": 16,
        },
        refused="mixture of experts",
    ),
    "DiffLlama": Family("DiffLlamaConfig", _GROUPED, quick=False),
    "Doge": Family("DogeConfig", _GROUPED, quick=False),
    "VaultGemma": Family("VaultGemmaConfig", _WINDOW, quick=False),
    "MiniCPM3": Family(
        "MiniCPM3Config",
        {
            **_GATED,
            "num_key_value_heads": 4,
            "kv_lora_rank": 8,
            "q_lora_rank": 12,
            "qk_nope_head_dim": 4,
            "qk_rope_head_dim": 4,
        },
        learning_rate=1.0,
        quick=False,
    ),
}

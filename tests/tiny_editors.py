"""Random diffusion pipelines of the editors' own classes, a hundred thousand numbers each, saved as users have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

LETTERS = [chr(code) for code in range(33, 127)]


def clip_tokenizer(folder: Path):  # type: ignore[no-untyped-def]
    """A tokenizer of single characters: 514 entries, no merges."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    folder.mkdir(parents=True, exist_ok=True)
    characters = list(bytes_to_unicode().values())
    entries = [*characters, *(f"{one}</w>" for one in characters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({entry: index for index, entry in enumerate(entries)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=77)


def clip_text(width: int = 16, projected: bool = False):  # type: ignore[no-untyped-def]
    """A CLIP text model with 2 layers."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    return kind(
        CLIPTextConfig(
            vocab_size=514,
            hidden_size=width,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            projection_dim=width,
            bos_token_id=512,
            eos_token_id=513,
            pad_token_id=513,
        )
    )


def tiny_clip(folder: Path) -> Path:
    """A CLIPModel with its tokenizer."""
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(1)
    config = CLIPConfig(
        text_config={**small, "vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513},
        vision_config={**small, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    clip_tokenizer(folder / "words").save_pretrained(folder)
    return folder


def stable_diffusion(**more: Any) -> tuple[Any, Any]:
    """The U-Net of an editor of pictures, and a VAE that makes them eight times smaller."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        in_channels=8,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        **more,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        latent_channels=4,
        norm_num_groups=4,
    )
    return unet, vae


def tiny_ip2p(folder: Path) -> Path:
    """A StableDiffusionInstructPix2PixPipeline without safety checker."""
    from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline

    torch.manual_seed(3)
    unet, vae = stable_diffusion(cross_attention_dim=16, attention_head_dim=4)
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
    )
    pipe = StableDiffusionInstructPix2PixPipeline(
        vae=vae,
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(folder / "words"),
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# tiny\n")
    return folder


def tiny_kontext(folder: Path) -> Path:
    """A FluxKontextPipeline."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    torch.manual_seed(4)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=True,
    )
    vae = AutoencoderKL(
        block_out_channels=(4,),
        latent_channels=1,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0609,
        scaling_factor=1.5035,
    )
    pieces = [(piece, -float(index)) for index, piece in enumerate(["<pad>", "</s>", "<unk>", "▁", *LETTERS])]
    pipe = FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=clip_text(32),
        tokenizer=clip_tokenizer(folder / "words"),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=len(pieces), d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4)
        ),
        tokenizer_2=T5Tokenizer(vocab=pieces, extra_ids=0),
        transformer=transformer,
    )
    pipe.save_pretrained(folder)
    return folder


def tiny_sdxl(folder: Path, cosxl: bool = False) -> Path:
    """A StableDiffusionXLInstructPix2PixPipeline; cosxl: with CosXL Edit's scheduler."""
    from diffusers import EDMEulerScheduler, EulerDiscreteScheduler, StableDiffusionXLInstructPix2PixPipeline

    torch.manual_seed(5)
    unet, vae = stable_diffusion(
        cross_attention_dim=32,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=6 * 8 + 16,
    )
    scheduler = (
        EDMEulerScheduler(sigma_min=0.002, sigma_max=120.0, sigma_data=1.0, prediction_type="v_prediction")
        if cosxl
        else EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1)
    )
    pipe = StableDiffusionXLInstructPix2PixPipeline(
        vae=vae,
        text_encoder=clip_text(),
        text_encoder_2=clip_text(projected=True),
        tokenizer=clip_tokenizer(folder / "words"),
        tokenizer_2=clip_tokenizer(folder / "words"),
        unet=unet,
        scheduler=scheduler,
    )
    pipe.save_pretrained(folder)
    return folder


PADS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")


def tiny_qwen(folder: Path, plus: bool) -> Path:
    """A QwenImageEditPlusPipeline, or a QwenImageEditPipeline, with its processor as the hub's folders hold it."""
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImageEditPipeline,
        QwenImageEditPlusPipeline,
        QwenImageTransformer2DModel,
    )
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    torch.manual_seed(6)
    vocabulary = {entry: index for index, entry in enumerate([*bytes_to_unicode().values(), *PADS])}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": list(PADS[1:])})
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}
    encoder = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "vocab_size": len(vocabulary),
                "rope_parameters": rope,
                "bos_token_id": None,
                "eos_token_id": vocabulary[PADS[0]],
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 16,
            },
            image_token_id=vocabulary[PADS[5]],
            vision_start_token_id=vocabulary[PADS[3]],
            vision_end_token_id=vocabulary[PADS[4]],
        )
    )
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    kind = QwenImageEditPlusPipeline if plus else QwenImageEditPipeline
    pipe = kind(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        processor=None,  # its class needs torchvision to be made, not to be read
        transformer=transformer,
    )
    pipe.save_pretrained(folder)
    tokenizer.save_pretrained(folder / "processor")
    pictures = {"image_processor_type": "Qwen2VLImageProcessorFast", "patch_size": 14, "merge_size": 2}
    (folder / "processor" / "preprocessor_config.json").write_text(json.dumps(pictures))
    index = folder / "model_index.json"
    parts = json.loads(index.read_text())
    index.write_text(json.dumps({**parts, "processor": ["transformers", "Qwen2VLProcessor"]}))
    return folder

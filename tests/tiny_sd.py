"""A latent diffusion model in the layout of Stable Diffusion, tiny and random: the same parts, none of the meaning."""

import functools
import json
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from jobs.kit import generator
from jobs.kit.base import latent

NAMES = ["no DR", "mild NPDR", "moderate NPDR", "severe NPDR", "PDR", "not graded"]
CLASSES = [{"name": name, "prompt": name} for name in NAMES]


def write_checkpoint(folder: Path, *, prediction_type: str = "epsilon") -> Path:
    """Write unet/, vae/, text_encoder/, tokenizer/ and scheduler/ as `save_pretrained` does."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "layers_per_block": 1,
              "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "block_out_channels": [16, 32]}  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, cross_attention_dim=16, attention_head_dim=8,
        norm_num_groups=8, **blocks,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=[8, 8, 8], down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3, latent_channels=4, norm_num_groups=4, sample_size=64,
    )  # fmt: skip
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=600, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=16, bos_token_id=598, eos_token_id=599,
        )
    )  # fmt: skip
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text.save_pretrained(folder / "text_encoder")
    _tokenizer(folder / "words").save_pretrained(folder / "tokenizer")
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction_type,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    return folder


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """Return a tokenizer that knows letters alone."""
    folder.mkdir(parents=True)
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {word: number for number, word in enumerate(words)}
    vocabulary |= {"<|startoftext|>": 598, "<|endoftext|>": 599}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def write_base(out: Path, *, prediction_type: str = "epsilon", rank: int = 4) -> generator.Base:
    """Write the base generator that an operator makes of the checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_checkpoint(Path(folder), prediction_type=prediction_type)
        unet, vae, scheduler = latent.load_checkpoint(checkpoint)
        prompts = latent.embed([row["prompt"] for row in CLASSES], checkpoint)
        facts = {"slug": "tiny-sd", "version": "1.0.0", "title": "Tiny", "licence": "CC0-1.0", "classes": NAMES}
        latent.write_base(out, unet, vae, prompts, rank=rank, scheduler=scheduler, **facts)
    return generator.load_base(out)


@functools.cache
def base() -> generator.Base:
    """Return one such base, made once in each process."""
    return write_base(Path(tempfile.mkdtemp(prefix="tiny-sd-")))

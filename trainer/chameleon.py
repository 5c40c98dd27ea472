"""A ``modern`` model in Hugging Face's Chameleon layout: transformers loads it, and vLLM up to 0.28.

The blocks are the same (arXiv 2405.09818): RMSNorm, rotated halves, SwiGLU, and LayerNorm over each head's
query and key, whose gain and bias are 1 and 0 here. Ids are ours, unchanged: the embedding has all 65,536
rows, and those of ids that the fitted tokenizers do not use are 0.

The surprising rule: Chameleon's ``forward`` gives no image id a chance, and knows them by their names in
``vocabulary_map``. A row of zeros would have the logit 0, which may be the largest; so ids that nobody uses
are named like codes beyond the codebook's end, and are masked with them.

Shapes: D width, F width of the feed-forward, H heads, E head width, V ids, K codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tokenizer_service import checkpoints, vocabulary, vq
from tokenizer_service.bodies import ConvolutionalConfig
from tokenizer_service.codebooks import Codebook
from tokenizer_service.quantizers import LookupConfig
from tokenizer_service.vocabulary import Live
from tokenizer_service.vq import VQ, VQConfig
from trainer import chameleon_processor
from trainer.chameleon_processor import NAMES, Tokenizers, image_name
from trainer.model import ROPE_BASE, Block, ModelSection, Transformer

NEAREST = frozenset({"unit", "ema", "lookup", "simvq"})
"""Quantisers that choose the code at the smallest distance; others choose by a score."""
NO_PICTURES = VQConfig(
    codebook_size=2,
    quantizer=LookupConfig(dim=1),
    body=ConvolutionalConfig(channels=32, multipliers=(1,), blocks=1, attention_levels=(), z_channels=1),
)
"""Stands where a corpus's image tokenizer has no place in Chameleon's layout. It takes pictures of one
channel, so that reading a picture stops with an error and never gives ids that mean nothing. vLLM
tries one when it starts: limit_mm_per_prompt has to allow none."""


def write(
    folder: Path, model: Transformer, facts: dict[str, Any], tokenizers: Tokenizers | None = None
) -> None:
    """Weights, configuration and, with ``tokenizers``, the files that make ids of text and pictures.

    Raises ValueError for a model that Chameleon's layout cannot express.
    """
    check(model.section)
    image = tokenizers.image if tokenizers and fits(tokenizers.image) else None
    side = tokenizers.side if tokenizers else 1
    tensors = {**weights(model), **image_weights(image)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _dump(folder / "config.json", {**config(model.section, model.live, image, side=side), "pardalis": facts})
    _dump(folder / "generation_config.json", ENDS)
    if tokenizers is not None:
        files = chameleon_processor.files(tokenizers, model.live, context=model.section.context)
        for name, told in files.items():
            _dump(folder / name, told)


def _dump(path: Path, told: dict[str, Any]) -> None:
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def check(section: ModelSection) -> None:
    """ValueError names the setting that Chameleon has no place for."""
    if section.variant != "modern":
        raise ValueError(
            f'trainer.model.variant is "{section.variant}", and Chameleon has the rotated positions, SwiGLU '
            'and RMSNorm of "modern"; train such a run, or export with --layout pardalis'
        )
    if not section.has_qk_norm:
        raise ValueError(
            "trainer.model.qk_norm is false, and Chameleon always normalises queries and keys; train a run "
            "without that line, or export with --layout pardalis"
        )
    for name in ("image_places", "lookup_rows"):
        if number := getattr(section, name):
            raise ValueError(
                f"trainer.model.{name} is {number}, for which Chameleon's layout has no place; train a "
                f"run with {name} = 0, or export with --layout pardalis"
            )


def weights(model: Transformer) -> dict[str, Tensor]:
    """The trunk's tensors by Chameleon's names; the head is the embedding, and not written twice."""
    tensors = {"model.embed_tokens.weight": embedding(model)}
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)  # noqa: S101  # nn.ModuleList forgets what it holds
        for name, tensor in _block(block):
            tensors[f"model.layers.{layer}.{name}"] = tensor
    tensors["model.norm.weight"] = _gain(model.last_norm)
    return {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}


def embedding(model: Transformer) -> Tensor:
    """[V, D] of all ids: zeros where the fitted tokenizers use none."""
    rows_VD = model.tokens.weight.detach()
    whole_VD = rows_VD.new_zeros(vocabulary.SIZE, rows_VD.shape[1])
    middle, num_codes = model.live.text_stop, model.live.num_codes
    whole_VD[:middle] = rows_VD[:middle]
    whole_VD[vocabulary.IMAGE_START : vocabulary.IMAGE_START + num_codes] = rows_VD[middle:]
    return whole_VD


def _block(block: Block) -> Iterator[tuple[str, Tensor]]:
    for name, part in zip("qkv", block.qkv.weight.chunk(3), strict=True):
        yield f"self_attn.{name}_proj.weight", part
    yield "self_attn.o_proj.weight", block.attention_out.weight
    shape = (block.num_heads, block.qkv.in_features // block.num_heads)
    for name in "qk":
        yield f"self_attn.{name}_norm.weight", torch.ones(shape)
        yield f"self_attn.{name}_norm.bias", torch.zeros(shape)
    for name, part in zip(("gate", "up"), block.up.weight.chunk(2), strict=True):
        yield f"mlp.{name}_proj.weight", part
    yield "mlp.down_proj.weight", block.down.weight
    yield "input_layernorm.weight", _gain(block.before_attention)
    yield "post_attention_layernorm.weight", _gain(block.before_feed_forward)


def _gain(norm: torch.nn.Module) -> Tensor:
    return norm.get_parameter("weight")


def config(section: ModelSection, live: Live, image: VQ | None, *, side: int) -> dict[str, Any]:
    """``config.json``."""
    return {
        "architectures": ["ChameleonForConditionalGeneration"],
        "model_type": "chameleon",
        "dtype": "float32",
        "vocab_size": vocabulary.SIZE,
        "hidden_size": section.width,
        "intermediate_size": section.feed_forward,
        "num_hidden_layers": section.num_layers,
        "num_attention_heads": section.num_heads,
        "num_key_value_heads": section.num_heads,
        "hidden_act": "silu",
        "max_position_embeddings": section.context,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_BASE},
        "rms_norm_eps": torch.finfo(torch.float32).eps,  # what torch's rms_norm adds by itself
        "initializer_range": section.init_std,
        "attention_bias": False,
        "mlp_bias": False,
        "swin_norm": False,
        "model_parallel_size": 1,
        "tie_word_embeddings": True,
        **ENDS,
        "vq_config": image_config(image, side),
        "vocabulary_map": vocabulary_map(live),
    }


ENDS = {
    "bos_token_id": vocabulary.EOS,
    "eos_token_id": [vocabulary.EOS, vocabulary.EOSS],
    "pad_token_id": vocabulary.PAD,
}
"""A document begins and ends with ``<eos>``, a text that was cut out of one ends with ``<eoss>``."""


def vocabulary_map(live: Live) -> dict[str, int]:
    """Specials and image ids by name; behind the codes, ids that are not in use: see the module's rule."""
    codes = range(vocabulary.IMAGE_START, vocabulary.IMAGE_START + live.num_codes)
    unused = (*range(live.text_stop, vocabulary.IMAGE_START), *range(codes.stop, vocabulary.SIZE))
    return {**NAMES, **{image_name(code): one for code, one in enumerate((*codes, *unused))}}


def fits(image: VQ) -> bool:
    """Whether Chameleon's encoder computes the same codes: a body of its family, and the nearest code.

    Of unit vectors the nearest is also the nearest to the vector before it was brought to unit length.
    """
    nearest = image.config.quantizer.kind in NEAREST
    return nearest and isinstance(image.config.body, ConvolutionalConfig)


def image_config(image: VQ | None, side: int) -> dict[str, Any]:
    """``vq_config``: the shape of the encoder."""
    found = NO_PICTURES if image is None else image.config
    body = found.body
    assert isinstance(body, ConvolutionalConfig)  # noqa: S101  # as fits says
    return {
        "resolution": side,
        "in_channels": 1 if image is None else 3,
        "base_channels": body.channels,
        "channel_multiplier": list(body.multipliers),
        "num_res_blocks": body.blocks,
        "attn_resolutions": [side >> level for level in body.attention_levels],
        "latent_channels": body.z_channels,
        "embed_dim": found.quantizer.dim,
        "num_embeddings": found.codebook_size,
    }


def image_weights(image: VQ | None) -> dict[str, Tensor]:
    """The encoder's tensors by Chameleon's names, and its codebook. Its class has no decoder."""
    kept = _zeros() if image is None else image
    tensors = kept.state_dict()
    assert isinstance(kept.quantizer, Codebook)  # noqa: S101  # as fits says
    made = {"quantize.embedding.weight": kept.quantizer.table()}
    for ours, several in checkpoints.our_names(kept, "chameleon").items():
        if several[0].startswith(("encoder.", "quant_conv.", "post_quant_conv.")):
            made |= zip(several, tensors[ours].chunk(len(several)), strict=True)
    if image is None:
        made["encoder.conv_in.weight"] = made["encoder.conv_in.weight"][:, :1]
    return {f"model.vqmodel.{name}": tensor.detach().contiguous() for name, tensor in made.items()}


def _zeros() -> VQ:
    with torch.device("meta"):
        shapes = {name: one.shape for name, one in VQ(NO_PICTURES).state_dict().items()}
    return vq.filled(NO_PICTURES, None, {name: torch.zeros(shape) for name, shape in shapes.items()})

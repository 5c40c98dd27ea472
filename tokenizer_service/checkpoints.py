"""Published VQGAN weights into our module: taming-transformers, LlamaGen, Chameleon; by path or hub name.

Surprising rule: nothing in a file is executed and nothing in it is skipped in silence. Pickles are read with
``weights_only``; every tensor has to find its place, with its shape, or is named among what is ignored.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor, nn

from tokenizer_service import layouts, vq
from tokenizer_service.bodies import Attention, ConvolutionalConfig, Doubled, Halved, Residual
from tokenizer_service.layouts import IGNORED, LAYOUTS, Name
from tokenizer_service.vq import VQ, VQConfig, Weights

MAX_BYTES = 4 << 30
"""Of a file, and of what it unpacks to. The largest published one, with its optimizer, has under 1 GB."""
MAX_PICKLE_BYTES = 64 << 20
"""Of the pickle inside it, which holds names and shapes; the tensors are beside it."""
WRAPPERS = ("ema", "model", "state_dict")
"""Where trainers put the weights: the first that is there, as LlamaGen's own loader does."""
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+:[\w./-]+")
PERMISSIVE = frozenset(
    one.casefold()
    for one in (
        *("MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "Unlicense", "0BSD"),
        *("CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "MPL-2.0"),
    )
)
"""SPDX identifiers that let anybody use weights commercially. Terms of a contract of one's own are stated as
``LicenseRef-NAME``; any other word counts as non-commercial, since nobody can list all that forbid it."""
OWN_TERMS = "licenseref-"

# Everything that torch.load was seen to raise on damaged bytes, and on what weights_only refuses.
_BROKEN = (
    pickle.UnpicklingError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

RESIDUAL = {"norm1": "norm1", "first": "conv1", "norm2": "norm2", "last": "conv2"}
"""Our names of the parts of a block, and theirs."""
ATTENTION = {"norm": ("norm",), "qkv": ("q", "k", "v"), "last": ("proj_out",)}


class Noncommercial(ValueError):
    """The purpose is commercial and the weights may not be used for it."""


def load(where: str | Path, *, license: str | None = None, layout: Name | None = None) -> VQ:  # noqa: A002
    """The model of a published checkpoint, ready to encode: a path, or ``owner/name:file`` on the hub.

    ``license`` states the terms of the weights: a file's names say whose layout it has and not who trained
    it, so weights whose terms nobody stated count as non-commercial. ``layout`` settles whose preprocessing
    is meant where names and shapes would be taken for another's. ValueError says what the file lacks, or has
    too much.
    """
    path = found(str(where))
    tensors = {name: one for name, one in tensors_of(path).items() if not name.startswith(IGNORED)}
    shapes = layouts.shapes_of(tensors)
    name = layout or layouts.detect(shapes)
    weights = Weights(
        license=license
        or f"not stated; the authors of its layout publish theirs under {LAYOUTS[name].license}",
        noncommercial=license is None or not is_permissive(license),
        layout=name,
        sha256=sha256(path),
    )
    config = layouts.config_of(shapes, name)
    return vq.filled(config, weights, translated(tensors, config, name))


def open_model(where: str | Path, *, license: str | None = None) -> VQ:  # noqa: A002  # as :func:`load` has it
    """A model that was fitted before, ready to encode: a file of ours, or a published checkpoint.

    ``license`` states the terms of published weights; a file of ours says them itself.
    """
    path = found(str(where))
    return vq.load(path.read_bytes()) if is_ours(path) else load(path, license=license)


def is_ours(path: Path) -> bool:
    """Whether :func:`vq.save` wrote the file."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, "pt") as file:
            return vq.METADATA in (file.metadata() or {})
    except SafetensorError:
        return False  # those who read published files say what is wrong


def is_permissive(license: str) -> bool:  # noqa: A002  # as :func:`load` has it
    """Whether such terms allow a commercial use.

    >>> [is_permissive(one) for one in ("mit", "LicenseRef-Acme-7", "CC BY Non Commercial 4.0")]
    [True, True, False]
    """
    return license.casefold() in PERMISSIVE or license.casefold().startswith(OWN_TERMS)


def refuse_noncommercial(weights: Weights | None, *, commercial: bool) -> None:
    """Raises :class:`Noncommercial` for such weights where the purpose is commercial."""
    if commercial and weights is not None and weights.noncommercial:
        raise Noncommercial(
            f"the tokenizer's weights (layout {weights.layout}, sha256 {weights.sha256[:12]}...) are under: "
            f"{weights.license}. That is not for a commercial purpose; state a licence that is, by its SPDX "
            "identifier or as LicenseRef-NAME where you have a contract (--init-license, --model-license, "
            "tokenizer.image.model_license), fit your own, or set "
            "pipeline.purpose.commercial to false"
        )


def found(where: str) -> Path:
    """The file on this machine, fetched from the hub if need be. ValueError says why there is none."""
    if Path(where).is_file():
        return Path(where)
    if not HUB_NAME.fullmatch(where):
        raise ValueError(f"there is no file {where}; give a path, or owner/name:file for one on the hub")
    # Not at the top: the import takes 0.3 s, and few come here.
    import huggingface_hub  # noqa: PLC0415
    from huggingface_hub import errors  # noqa: PLC0415

    repository, _, file = where.partition(":")
    try:
        return Path(huggingface_hub.hf_hub_download(repository, file))
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.HFValidationError) as error:
        raise ValueError(
            f"the hub gave no {where} ({type(error).__name__}); check the name and the network, or download "
            "the file elsewhere and give its path"
        ) from error


def tensors_of(path: Path) -> dict[str, Tensor]:
    """The weights of a safetensors file or of a pickle, by their names there."""
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path} has {size} bytes, over {MAX_BYTES}; a tokenizer's checkpoint is smaller")
    if path.suffix == ".safetensors":
        try:
            return _bounded(safetensors.load_file(path), path)
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file: {error}; download it again") from error
    return _bounded(_unwrapped(_unpickled(path), path), path)


def _bounded(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """A tensor of stride 0 takes no room in a file, and all of it once it is used."""
    if (num := sum(one.numel() for one in tensors.values())) > MAX_BYTES // 4:
        raise ValueError(
            f"{path} has {num} numbers, over {MAX_BYTES // 4}; a tokenizer's checkpoint has fewer"
        )
    return dict(tensors)


class _Inert:
    """Stands for the one class that Lightning pickled into taming's checkpoints; it does nothing."""


_ALLOWED: list[Any] = [(_Inert, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")]


def _unpickled(path: Path) -> Any:
    """What torch.save wrote, without running anything that it names."""
    zipped = zipfile.is_zipfile(path)
    if zipped:
        _check_members(path)
    elif path.stat().st_size > MAX_BYTES // 4:
        raise ValueError(
            f"{path} is of before torch 1.6 and too large to read whole; save it with a newer one"
        )
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except _BROKEN as error:
        # Not torch's own words, which advise to load it all the same.
        raise ValueError(
            f"{path} holds more than tensors, or is damaged ({type(error).__name__}); convert it to "
            "safetensors where you trust it, and give that"
        ) from error


def _check_members(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        for member in file.infolist():
            limit = MAX_PICKLE_BYTES if member.filename.endswith(".pkl") else MAX_BYTES
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > limit:
                raise ValueError(
                    f"{path}: {member.filename} is compressed or over {limit} bytes, which torch.save never "
                    "writes; download it again"
                )


def _unwrapped(held: Any, path: Path) -> dict[str, Tensor]:
    for name in WRAPPERS:
        if isinstance(held, dict) and isinstance(held.get(name), dict):
            held = held[name]
            break
    if not isinstance(held, dict) or not all(
        isinstance(name, str) and isinstance(one, Tensor) for name, one in held.items()
    ):
        raise ValueError(f"{path} has no tensors by name, nor under {', '.join(WRAPPERS)}; give a checkpoint")
    return dict(held)


def sha256(path: Path) -> str:
    """Of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def translated(tensors: Mapping[str, Tensor], config: VQConfig, name: Name) -> dict[str, Tensor]:
    """Their tensors under our names. ValueError for one that is missing, left over, or of another shape."""
    with torch.device("meta"):
        model = VQ(config)
    wanted = layouts.shapes_of(model.state_dict())
    names = our_names(model, name)
    theirs = {one for several in names.values() for one in several}
    if missing := sorted(theirs - tensors.keys()):
        raise ValueError(
            f"the {name} checkpoint lacks {missing[0]} and {len(missing) - 1} more; download again"
        )
    if unknown := sorted(tensors.keys() - theirs):
        raise ValueError(
            f"the {name} checkpoint has {unknown[0]} and {len(unknown) - 1} more that its layout has not; "
            "delete them if they are of the training, or give another checkpoint"
        )
    made = {}
    for ours, several in names.items():
        height, *others = wanted[ours]
        shape = (height // len(several), *others)
        for one in several:
            # A 1 x 1 convolution may be written as the matrix that it is.
            if tuple(tensors[one].shape) not in (shape, (*shape, 1, 1)):
                found = tuple(tensors[one].shape)
                raise ValueError(f"{one} has the shape {found}; with the other tensors it would be {shape}")
        made[ours] = torch.cat([tensors[one].float() for one in several]).view(wanted[ours])
    return made


def our_names(model: VQ, name: Name) -> dict[str, tuple[str, ...]]:
    """For each tensor of ours, theirs; several are put one behind the other."""
    layout, body = LAYOUTS[name], model.config.body
    assert isinstance(body, ConvolutionalConfig)  # noqa: S101  # as layouts.config_of made it
    names: dict[str, tuple[str, ...]] = {f"quantizer.{ours}": (theirs,) for theirs, ours in layout.quantizer}
    for side, modules, part in (
        ("encoder", layouts.encoder_modules(body, layout), model.encoder),
        ("decoder", layouts.decoder_modules(body, layout), model.decoder),
    ):
        weighty = [(i, module) for i, module in part.named_children() if not isinstance(module, nn.SiLU)]
        for theirs, (i, module) in zip(modules, weighty, strict=True):
            for ours, several in _parts(theirs, module).items():
                for kind in ("weight", "bias"):
                    names[f"{side}.{i}.{ours}{kind}"] = tuple(f"{one}.{kind}" for one in several)
    return names


def _parts(theirs: str, module: nn.Module) -> dict[str, tuple[str, ...]]:
    """Our names within a module, each with a dot behind it, and theirs."""
    match module:
        case Residual():
            there = {"shortcut": "nin_shortcut"} if isinstance(module.shortcut, nn.Conv2d) else {}
            return {f"{ours}.": (f"{theirs}.{part}",) for ours, part in (RESIDUAL | there).items()}
        case Attention():
            return {
                f"{ours}.": tuple(f"{theirs}.{part}" for part in parts) for ours, parts in ATTENTION.items()
            }
        case Halved() | Doubled():
            return {"conv.": (f"{theirs}.conv",)}
        case _:
            return {"": (theirs,)}

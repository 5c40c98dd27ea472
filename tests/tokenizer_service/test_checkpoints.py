"""Published checkpoints: our module against a reference from the descriptions, and what is refused."""

import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.tokenizer_service import published
from tests.tokenizer_service.published import Description, State
from tokenizer_service import checkpoints, coding, vq
from tokenizer_service.checkpoints import Noncommercial
from tokenizer_service.vq import VQ

F16, F8 = (1, 1, 2, 2, 4), (1, 2, 2, 4)
LAYOUTS = {
    "taming-f16": Description(names="taming", multipliers=F16, attends=(4,)),
    "taming-f8": Description(names="taming", multipliers=F8, attends=(3,), z=4, dim=4),
    "taming-gumbel-f8": Description(names="taming", multipliers=(1, 1, 2, 4), attends=(3,), gumbel=True),
    "llamagen-ds8": Description(names="llamagen", multipliers=F8, attends=(3,), dim=8),
    "llamagen-ds16": Description(names="llamagen", multipliers=F16, attends=(4,), dim=8),
    "chameleon": Description(names="taming", multipliers=F16, attends=()),
}
TERMS = {
    "taming-f16": ("MIT", "linear"),
    "taming-f8": ("MIT", "linear"),
    "taming-gumbel-f8": ("MIT", "linear"),
    "llamagen-ds8": ("MIT", "bicubic"),
    "llamagen-ds16": ("MIT", "bicubic"),
    "chameleon": ("Chameleon Research License", "lanczos"),
}
PLAIN = Description(names="taming", multipliers=(1, 2), attends=(1,), blocks=1)
PHOTOS_BHWC = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def written(folder: Path, s: State) -> Path:
    path = folder / "vqgan.safetensors"
    save_file(s, path)
    return path


def loaded(folder: Path, d: Description) -> tuple[VQ, State]:
    s = published.state(d)
    return checkpoints.load(written(folder, s)), s


@pytest.mark.long
@pytest.mark.parametrize("name", LAYOUTS)
@torch.no_grad()
def test_codes_and_images_are_those_of_the_published_architecture(name: str, tmp_path: Path) -> None:
    d = LAYOUTS[name]
    model, s = loaded(tmp_path, d)
    images = torch.from_numpy((PHOTOS_BHWC / 127.5 - 1).astype(np.float32)).permute(0, 3, 1, 2)
    codes = published.encode(s, d, images)
    assert torch.equal(model.encode(images), codes)
    assert np.array_equal(coding.encode_images(model, PHOTOS_BHWC), codes.flatten(1).numpy())
    assert len(codes.unique()) > 5
    assert (model.decode(codes) - published.decode(s, d, codes)).abs().max() < 1e-4


@pytest.mark.long
@pytest.mark.parametrize("name", LAYOUTS)
def test_terms_and_preprocessing_are_those_of_the_layout_and_stay_with_the_model(
    name: str, tmp_path: Path
) -> None:
    model, _ = loaded(tmp_path, LAYOUTS[name])
    again = vq.load(vq.save(model))
    assert again.weights == model.weights
    assert again.config == model.config
    assert again.weights is not None
    authors, resize = TERMS[name]
    assert again.weights.license == f"not stated; the authors of its layout publish theirs under {authors}"
    assert again.weights.noncommercial
    assert again.config.preprocessing.resize == resize
    assert name.startswith(again.weights.layout)
    assert len(again.weights.sha256) == 64


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "ema"])
def test_a_pickle_of_tensors_gives_the_same_model_however_it_is_wrapped(
    wrapper: str | None, tmp_path: Path
) -> None:
    s = published.state(PLAIN)
    path = tmp_path / "last.ckpt"
    torch.save({wrapper: s, "epoch": 3} if wrapper else s, path)
    ours = checkpoints.load(path).state_dict()
    theirs = checkpoints.load(written(tmp_path, s)).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_averaged_weights_are_taken_before_the_others(tmp_path: Path) -> None:
    path = tmp_path / "vq_ds16.pt"
    torch.save({"model": published.state(PLAIN, 1), "ema": published.state(PLAIN, 2)}, path)
    taken = checkpoints.load(path).quantizer.codebook_KD
    assert torch.equal(taken, published.state(PLAIN, 2)["quantize.embedding.weight"])


def test_what_belongs_to_the_training_is_left_out(tmp_path: Path) -> None:
    s = published.state(PLAIN)
    extra = {
        "loss.discriminator.main.0.weight": torch.zeros(3),
        "loss.perceptual_loss.net.slice1.0.weight": torch.zeros(3),
        "quantize.codebook_used": torch.zeros(65_536),
    }
    model = checkpoints.load(written(tmp_path, s | extra))
    assert torch.equal(model.quantizer.codebook_KD, s["quantize.embedding.weight"])


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    s = {name: tensor.half() for name, tensor in published.state(PLAIN).items()}
    model = checkpoints.load(written(tmp_path, s))
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


def test_a_checkpoint_of_lightning_is_read_without_lightning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [
        "pytorch_lightning",
        "pytorch_lightning.callbacks",
        "pytorch_lightning.callbacks.model_checkpoint",
    ]
    callback = type("ModelCheckpoint", (), {"__module__": names[-1]})
    with monkeypatch.context() as patch:
        for name in names:
            patch.setitem(sys.modules, name, types.ModuleType(name))
        vars(sys.modules[names[-1]])["ModelCheckpoint"] = callback
        torch.save(
            {"callbacks": {callback: {"best": 1.0}}, "state_dict": published.state(PLAIN)},
            tmp_path / "a.ckpt",
        )
    checkpoints.load(tmp_path / "a.ckpt")


class Touches:
    """Would make a file on being unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_more_than_tensors_is_refused_and_nothing_in_it_runs(
    tmp_path: Path, *, legacy: bool
) -> None:
    path, mark = tmp_path / "bad.ckpt", tmp_path / "ran"
    held = {"state_dict": published.state(PLAIN), "x": Touches(mark)}
    torch.save(held, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match="more than tensors"):
        checkpoints.load(path)
    assert not mark.exists()


def test_what_torch_never_writes_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    torch.save(published.state(PLAIN), tmp_path / "good.pt")
    with (
        zipfile.ZipFile(tmp_path / "good.pt") as good,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in good.namelist():
            bomb.writestr(name, good.read(name))
    with pytest.raises(ValueError, match="compressed or over"):
        checkpoints.load(tmp_path / "bomb.pt")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", pickle.dumps([1, 2], protocol=2), b"\x93NUMPY"])
@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_files_that_are_no_checkpoint_are_refused(data: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="bad"):
        checkpoints.load(path)


def without(s: State, key: str) -> State:
    return {name: tensor for name, tensor in s.items() if name != key}


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (lambda s: without(s, "decoder.mid.attn_1.k.bias"), r"lacks decoder\.mid\.attn_1\.k\.bias"),
        (lambda s: without(s, "encoder.conv_in.weight"), r"no tensor encoder\.conv_in\.weight"),
        (lambda s: without(s, "quantize.embedding.weight"), r"no tensor quantize\.embedding\.weight"),
        (lambda s: s | {"encoder.extra.weight": torch.zeros(1)}, r"has encoder\.extra\.weight"),
        (
            lambda s: s | {"decoder.norm_out.weight": torch.zeros(96)},
            r"decoder\.norm_out\.weight has the shape",
        ),
        (
            lambda s: s | {"post_quant_conv.weight": torch.zeros(9, 9, 1, 1)},
            r"post_quant_conv\.weight has the",
        ),
        (lambda s: s | {"encoder.conv_in.weight": torch.zeros(20, 3, 3, 3)}, r"encoder\.conv_in\.weight"),
        (lambda _s: {"model.diffusion.weight": torch.zeros(1)}, "no VQGAN of"),
    ],
)
def test_a_tensor_that_is_missing_left_over_or_of_another_shape_is_named(
    changed: Callable[[State], State], complaint: str, tmp_path: Path
) -> None:
    path = written(tmp_path, changed(published.state(PLAIN)))
    with pytest.raises(ValueError, match=complaint):
        checkpoints.load(path)


def test_a_stated_licence_is_the_one_that_counts(tmp_path: Path) -> None:
    path = written(tmp_path, published.state(LAYOUTS["chameleon"]))
    own = checkpoints.load(path, license="Apache-2.0")
    assert own.weights is not None
    assert (own.weights.license, own.weights.noncommercial) == ("Apache-2.0", False)
    other = checkpoints.load(path, license="CC-BY-NC-4.0")
    assert other.weights is not None
    assert other.weights.noncommercial


@pytest.mark.parametrize("name", ["chameleon", "taming-f16"])
def test_weights_whose_terms_nobody_stated_are_refused_for_a_commercial_purpose_alone(
    name: str, tmp_path: Path
) -> None:
    unstated, _ = loaded(tmp_path, LAYOUTS[name])
    checkpoints.refuse_noncommercial(unstated.weights, commercial=False)
    with pytest.raises(Noncommercial, match=r"not stated; .*--init-license"):
        checkpoints.refuse_noncommercial(unstated.weights, commercial=True)
    stated = checkpoints.load(tmp_path / "vqgan.safetensors", license="MIT")
    checkpoints.refuse_noncommercial(stated.weights, commercial=True)
    checkpoints.refuse_noncommercial(None, commercial=True)


@pytest.mark.parametrize("where", ["nowhere.ckpt", "folder/nowhere.ckpt"])
def test_a_path_without_a_file_is_refused(where: str) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        checkpoints.load(where)


def test_without_a_network_the_hub_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"the hub gave no owner/name:vqgan\.ckpt"):
        checkpoints.load("owner/name:vqgan.ckpt")


def test_a_tensor_that_is_larger_than_its_file_is_refused_before_it_is_used(tmp_path: Path) -> None:
    endless = torch.zeros(1).expand(1 << 20, 1 << 12)
    torch.save({"encoder.conv_in.weight": endless}, tmp_path / "endless.ckpt")
    with pytest.raises(ValueError, match="4294967296 numbers, over"):
        checkpoints.load(tmp_path / "endless.ckpt")


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    torch.save({1: torch.zeros(1)}, tmp_path / "numbers.ckpt")
    with pytest.raises(ValueError, match="no tensors by name"):
        checkpoints.load(tmp_path / "numbers.ckpt")

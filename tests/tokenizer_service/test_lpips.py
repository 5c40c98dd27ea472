"""LPIPS from small random weights under the published names, beside the formula written out."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from tokenizer_service import lpips, perceptual
from tokenizer_service.lpips import Lpips
from tokenizer_service.perceptual import LpipsFiles

WIDTHS = (4, 4, "M", 6, 6, "M", 8, 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M")
"""torchvision's ``features``, thinner."""
TAPS = (3, 8, 15, 22, 29)
"""Where LPIPS listens: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3."""


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    found: list[nn.Module] = []
    before = 3
    for width in WIDTHS:
        if isinstance(width, str):
            found.append(nn.MaxPool2d(2))
            continue
        found += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
        before = width
    return nn.Sequential(*found)


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    return layers()


@pytest.fixture
def files(network: nn.Sequential, tmp_path: Path) -> LpipsFiles:
    state = {f"features.{name}": weight for name, weight in network.state_dict().items()}
    state["classifier.0.weight"] = torch.zeros(2, 2)
    torch.save(state, tmp_path / "vgg16.pth")
    torch.manual_seed(1)
    heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate((4, 6, 8, 8, 8))}
    save_file(heads, tmp_path / "heads.safetensors")
    return LpipsFiles(vgg=str(tmp_path / "vgg16.pth"), heads=str(tmp_path / "heads.safetensors"))


def pictures(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_distance_is_the_published_formula(network: nn.Sequential, files: LpipsFiles) -> None:
    found = Lpips.load(Path(files.vgg), Path(files.heads))
    one, two = pictures(0), pictures(1)
    total = torch.zeros(())
    for number, tap in enumerate(TAPS):
        maps = []
        for image in (one, two):
            shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
            scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
            seen = network[: tap + 1]((image - shift) / scale)
            maps.append(functional.normalize(seen, dim=1, eps=1e-10))
        each = functional.conv2d((maps[0] - maps[1]).square(), found.heads[number])
        total = total + each.mean()
    assert found.distance(one, two).item() == pytest.approx(total.item(), rel=1e-4)
    assert found.distance(one, one).item() == 0.0


def test_a_dark_picture_has_a_gradient(files: LpipsFiles) -> None:
    dark = torch.full((1, 3, 32, 32), -1.0, requires_grad=True)
    judge = perceptual.load(files, cache=Path(), device="cpu")
    judge(dark, pictures(0)[:1]).backward()
    assert dark.grad is not None
    assert dark.grad.isfinite().all()


def test_it_judges_in_float32_whatever_autocast_says(files: LpipsFiles) -> None:
    judge = perceptual.load(files, cache=Path(), device="cpu")
    alone = judge(pictures(0), pictures(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(judge(pictures(0), pictures(1)), alone)


def test_an_identity_has_the_sha256_of_the_files_and_no_path(files: LpipsFiles, tmp_path: Path) -> None:
    told = files.by_content().model_dump()
    assert told["vgg"] == hashlib.sha256(Path(files.vgg).read_bytes()).hexdigest()
    assert str(tmp_path) not in str(told)
    assert Lpips.load(Path(files.vgg), Path(files.heads)).sha256 == (told["vgg"], told["heads"])


@pytest.mark.parametrize(("name", "get"), [("vgg", lpips.GET_VGG), ("heads", lpips.GET_HEADS)])
def test_a_file_that_is_missing_or_another_is_told_with_where_to_get_it(
    files: LpipsFiles, tmp_path: Path, name: str, get: str
) -> None:
    absent = files.model_copy(update={name: str(tmp_path / "absent.pth")})
    assert absent.missing() == [f"{tmp_path / 'absent.pth'} is no file; {get}"]
    with pytest.raises(ValueError, match="is no file"):
        absent.by_content()
    (tmp_path / "noise.pth").write_bytes(b"no weights")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    for wrong in ("noise.pth", "other.pth", "absent.pth"):
        changed = files.model_copy(update={name: str(tmp_path / wrong)})
        with pytest.raises(ValueError, match=wrong) as told:
            Lpips.load(Path(changed.vgg), Path(changed.heads))
        assert get in str(told.value)


def test_a_pickle_that_would_run_code_is_refused(files: LpipsFiles, tmp_path: Path) -> None:
    torch.save({"features.0.weight": Path("x")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="holds more than tensors, or is damaged"):
        Lpips.load(tmp_path / "evil.pth", Path(files.heads))

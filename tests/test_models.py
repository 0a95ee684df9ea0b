"""The networks: shapes for every image size, the paper's parameter counts, seeded bits, and operators' mistakes."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mdgan_edge.errors import ConfigurationError
from mdgan_edge.gan.models import architecture, build_discriminator, build_generator, parameter_count, resolve
from mdgan_edge.messages import ModelSettings

torch.set_num_threads(1)

BUILT_IN = ("mlp", "cnn28", "cnn32", "cnn")
Pair = tuple[nn.Module, nn.Module]


def settings_of(name: str, *, channels: int = 1, classes: int = 10) -> ModelSettings:
    size = {"cnn32": 32, "cnn": 13}.get(name, 28)
    return ModelSettings(name=name, image_size=size, channels=channels, classes=classes)


def noise(settings: ModelSettings, count: int = 3) -> tuple[torch.Tensor, torch.Tensor | None]:
    rng = torch.Generator().manual_seed(11)
    z = torch.randn(count, settings.latent_size, generator=rng)
    return z, torch.arange(count) % settings.classes if settings.classes else None


def assert_shapes(settings: ModelSettings) -> None:
    images = build_generator(settings, 1)(*noise(settings))
    logit, class_logits = build_discriminator(settings, 2)(images)
    assert images.shape == (3, settings.channels, settings.image_size, settings.image_size)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert images.abs().max() <= 1
    assert logit.shape == (3,)
    if settings.classes:
        assert class_logits.shape == (3, settings.classes)
    else:
        assert class_logits is None


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_size_fits_the_automatic_model(channels: int) -> None:
    for size in range(8, 65):
        assert_shapes(ModelSettings(image_size=size, channels=channels))


@pytest.mark.parametrize(("name", "channels", "classes"), list(itertools.product(BUILT_IN, (1, 3), (0, 1, 10))))
def test_every_model_has_the_agreed_shapes(name: str, channels: int, classes: int) -> None:
    assert_shapes(settings_of(name, channels=channels, classes=classes))


@pytest.mark.parametrize("size", [8, 9, 63, 64])
def test_the_mlp_takes_any_image_size(size: int) -> None:
    assert_shapes(ModelSettings(name="mlp", image_size=size, channels=3))


def test_the_mlp_has_the_parameter_counts_of_the_paper() -> None:
    settings = ModelSettings(name="mlp", image_size=28, channels=1, classes=10, latent_size=100)
    assert parameter_count(build_generator(settings, 0)) == 716_560
    assert parameter_count(build_discriminator(settings, 0)) == 670_219


def test_the_digits_model_is_small() -> None:
    settings = ModelSettings(name="cnn28")
    assert parameter_count(build_generator(settings, 0)) == pytest.approx(265_000, rel=0.05)
    assert parameter_count(build_discriminator(settings, 0)) == pytest.approx(38_000, rel=0.1)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_label_changes_the_image(name: str) -> None:
    settings = settings_of(name)
    generator = build_generator(settings, 0).eval()
    z, _ = noise(settings, 10)
    images = generator(z[:1].expand(10, -1), torch.arange(10)).flatten(1)
    distances = torch.pdist(images)
    assert distances.min() > 0


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_conditional_generator_insists_on_labels(name: str) -> None:
    settings = settings_of(name)
    with pytest.raises(AssertionError, match="needs labels"):
        build_generator(settings, 0)(noise(settings)[0], None)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    settings = settings_of(name)
    for build in (build_generator, build_discriminator):
        first, again, other = (build(settings, seed).state_dict() for seed in (5, 5, 6))
        assert all(torch.equal(first[key], again[key]) for key in first)
        assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", BUILT_IN)
def test_building_leaves_the_global_stream_alone(name: str) -> None:
    before = torch.get_rng_state()
    build_generator(settings_of(name), 5)
    build_discriminator(settings_of(name), 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_fingerprint_tells_architectures_apart_and_not_weights() -> None:
    settings = [settings_of(name, classes=classes) for name in BUILT_IN for classes in (0, 10)]
    fingerprints = [architecture(build(s, 0)) for s in settings for build in (build_generator, build_discriminator)]
    # The MLP generator's class code holds no parameter, so with and without classes its state looks the same.
    assert len(set(fingerprints)) == len(fingerprints) - 1
    assert architecture(build_discriminator(settings[0], 1)) == architecture(build_discriminator(settings[0], 2))
    assert all(len(bytes.fromhex(fingerprint)) == 16 for fingerprint in fingerprints)


def test_the_fingerprint_sees_name_dtype_and_shape() -> None:
    def holder(name: str, tensor: torch.Tensor) -> nn.Module:
        module = nn.Module()
        module.register_buffer(name, tensor)
        return module

    variants = [("a", torch.zeros(2)), ("b", torch.zeros(2)), ("a", torch.zeros(2).double()), ("a", torch.zeros(2, 1))]
    assert len({architecture(holder(*variant)) for variant in variants}) == 4


@pytest.mark.parametrize(("size", "name"), [(28, "cnn28"), (32, "cnn32"), (8, "cnn"), (64, "cnn")])
def test_auto_becomes_the_model_of_the_image_size(size: int, name: str) -> None:
    assert resolve(ModelSettings(image_size=size)) == ModelSettings(name=name, image_size=size)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (ModelSettings(image_size=7), "8..64"),
        (ModelSettings(image_size=65), "8..64"),
        (ModelSettings(channels=2), "use 1"),
        (ModelSettings(latent_size=0), "use 1 or more"),
        (ModelSettings(classes=-1), "use 0"),
        (ModelSettings(name="cnn28", image_size=32), "resize the images to 28"),
        (ModelSettings(name="cnn32", image_size=28), "resize the images to 32"),
        (ModelSettings(name="cnn23"), "did you mean 'cnn"),
        (ModelSettings(name="transformer"), "package.module:factory"),
    ],
)
def test_a_wrong_setting_is_refused_with_advice(settings: ModelSettings, advice: str) -> None:
    for use in (resolve, lambda s: build_generator(s, 0), lambda s: build_discriminator(s, 0)):
        with pytest.raises(ConfigurationError, match=advice):
            use(settings)


class Flat(nn.Module):
    """A user's generator: one linear layer and BatchNorm, unconditional by taste."""

    def __init__(self, settings: ModelSettings, size: int | None = None) -> None:
        super().__init__()
        side = size or settings.image_size
        self.shape = (settings.channels, side, side)
        self.layers = nn.Sequential(nn.Linear(settings.latent_size, settings.channels * side**2), nn.BatchNorm1d(784))

    def forward(self, z: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:  # noqa: ARG002 (the agreed signature)
        images: torch.Tensor = self.layers(z).tanh().reshape(-1, *self.shape)
        return images


class Judge(nn.Module):
    """A user's discriminator, with as many classes as told."""

    def __init__(self, settings: ModelSettings, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(settings.channels * settings.image_size**2, 1 + classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        scores = self.layer(x.flatten(1))
        return scores[:, 0], scores[:, 1:] if scores.shape[1] > 1 else None


class ColumnJudge(Judge):
    """Returns its logit as a column, which would broadcast silently in a loss."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        logit, classes = super().forward(x)
        return logit[:, None], classes


Factory = Callable[[ModelSettings], object]


@pytest.fixture
def user_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[Factory], ModelSettings]:
    def install(factory: Factory) -> ModelSettings:
        module = types.ModuleType("users_networks")
        module.pair = factory  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "users_networks", module)
        return ModelSettings(name="users_networks:pair")

    return install


def good_pair(settings: ModelSettings) -> Pair:
    return Flat(settings), Judge(settings, settings.classes)


def test_a_users_factory_is_built_from_the_seed(user_model: Callable[[Factory], ModelSettings]) -> None:
    settings = user_model(good_pair)
    first, again = (build_generator(settings, 3).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert isinstance(build_discriminator(settings, 3), Judge)


def test_the_trial_run_moves_no_batch_statistics(user_model: Callable[[Factory], ModelSettings]) -> None:
    generator = build_generator(user_model(good_pair), 3)
    assert generator.state_dict()["layers.1.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("factory", "complaint"),
    [
        (Flat, "must return"),
        (lambda s: (Flat(s), "judge"), "must return"),
        (lambda s: (Judge(s, 10), Flat(s)), "failed a trial run"),
        (lambda s: s.no_such_setting, "failed to build"),
        (lambda s: (Flat(s), Judge(s, 3)), "class logits must be float32"),
        (lambda s: (Flat(s), Judge(s, 0)), "class logits must be a tensor"),
        (lambda s: (Flat(s), ColumnJudge(s, 10)), "logit must be float32"),
        (lambda s: (Flat(s).double(), Judge(s, 10)), "failed a trial run"),
    ],
)
def test_a_users_wrong_factory_is_refused(
    user_model: Callable[[Factory], ModelSettings], factory: Factory, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        build_generator(user_model(factory), 0)


def test_images_of_the_wrong_size_are_refused(user_model: Callable[[Factory], ModelSettings]) -> None:
    settings = ModelSettings(name=user_model(good_pair).name, image_size=14, channels=1)
    sys.modules["users_networks"].pair = lambda s: (Flat(s, size=28), Judge(s, 10))  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match=r"images must be float32 \(2, 1, 14, 14\), not .*28, 28"):
        build_generator(settings, 0)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("no_such_package.networks:pair", "cannot import"),
        (":pair", "cannot import"),
        ("users_networks:pear", "did you mean 'pair'"),
        ("users_networks:", "no function"),
    ],
)
def test_a_missing_factory_is_refused(
    user_model: Callable[[Factory], ModelSettings], name: str, complaint: str
) -> None:
    user_model(good_pair)
    with pytest.raises(ConfigurationError, match=complaint):
        build_discriminator(ModelSettings(name=name), 0)

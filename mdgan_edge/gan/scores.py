"""How good and how varied generated images are, measured on the features and answers of a classifier of real images.

"Classifier features" are those of our own small classifier, not of the Inception network: these numbers compare runs on
the same data and seed with each other, and with nothing that others publish. Precision and density do not even reject
noise in such features: they are reported, never a criterion. Features are scaled so that those of the held-out real
images have a variance of 1 on average; otherwise FID and KID would depend on how the classifier happened to be scaled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mdgan_edge.data.images import Images, to_unit
from mdgan_edge.gan import classifier as classifying
from mdgan_edge.gan.classifier import Classifier, Outlook
from mdgan_edge.streams import stream_seed

NEIGHBOURS = 5  # k of coverage and density
PAIRWISE_MAX = 1000  # images compared each with each: coverage depends on how many, so it is the same everywhere
MODE_SHARE = 0.01  # of the samples a class needs to count as a mode ...
MODE_CONFIDENCE = 0.9  # ... each of them at least this surely of that class
NOISE_SAMPLES = 1000
UNSURE = "modes: the classifier is too unsure of the real images to count their classes, let alone those of others"


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one set of generated images; None where one cannot be given, and `reason` says why."""

    classifier_score: float | None = None  # exp of the mean KL(p(y|x) || p(y)): 1 .. classes, higher is better
    fid_classifier: float | None = None  # Fréchet distance of classifier features, lower is better
    coverage: float | None = None  # share of real images with a generated one nearby, 0 .. 1
    modes: int | None = None  # classes with enough sure samples
    label_total_variation: float | None = None  # between generated and real labels, 0 .. 1, lower is better
    kid: float | None = None  # squared MMD of classifier features, unbiased: may be below 0
    precision: float | None = None  # share of generated images near a real one, 0 .. 1
    recall: float | None = None  # share of real images near a generated one by the generated ones' distances, 0 .. 1
    density: float | None = None  # how many real neighbourhoods hold a generated image, about 1 for real ones
    reason: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What is kept of the held-out real images."""

    mean: Tensor  # float64 (F,), of the classifier features
    covariance: Tensor  # float64 (F, F)
    features: Tensor  # float32 (m, F), m <= PAIRWISE_MAX
    scale: float  # what features are multiplied by: real ones then have a variance of 1 on average
    radii: Tensor  # float32 (m,), to the k-th nearest other real image
    label_shares: Tensor  # float64 (classes,)
    modes: int  # what `modes` counts among the real images themselves


class Scorer:
    """Made once from real images (the classifier is trained then), asked often."""

    __slots__ = ("_classifier", "_noise_fid", "_reference", "accuracy", "reason", "seed", "shape")

    def __init__(self, classifier: Classifier | None, test: Images, seed: int, reason: str | None) -> None:
        """For `build`: without a classifier there is a reason, and every score is None."""
        self._classifier = classifier
        self._reference: Reference | None = None
        self._noise_fid: float | None = None
        self.accuracy: float | None = None  # of the classifier, on the held-out images
        self.reason = reason
        self.seed = seed
        self.shape = test.shape
        if classifier is not None:
            self._look_at_real(classifier, test)

    @classmethod
    def build(cls, train: Images, test: Images, seed: int, cache: Path | None = None) -> Scorer:
        """Train the classifier on `train` or take it from `cache`; `test` is what images are held against."""
        reason = why_not(train, test)
        if reason is not None:
            return cls(None, test, seed, reason)
        classes = max(train.classes, test.classes)
        return cls(classifying.obtain(train, classes, seed, cache), test, seed, None)

    def scores(self, fake: Tensor) -> Scores:
        """All scores of `fake`, float32 (n, C, H, W) in [-1, 1]."""
        assert tuple(fake.shape[1:]) == self.shape
        if self._classifier is None or self._reference is None:
            return Scores(reason=self.reason)
        if len(fake) <= NEIGHBOURS:
            return Scores(reason=f"{len(fake)} images are too few: at least {NEIGHBOURS + 1} are needed")
        if not torch.isfinite(fake).all():
            return Scores(reason="the images hold values that are not finite: the generator has diverged")
        outlook = classifying.look(self._classifier, fake.detach().clamp(-1, 1))
        return _scored(outlook, self._reference)

    def noise_fid(self) -> float | None:
        """`fid_classifier` of uniform noise: what a generator that learnt nothing at all would get."""
        if self._noise_fid is None and self._classifier is not None:
            chance = torch.Generator().manual_seed(stream_seed(self.seed, "noise"))
            noise = torch.rand((NOISE_SAMPLES, *self.shape), generator=chance) * 2 - 1
            self._noise_fid = self.scores(noise).fid_classifier
        return self._noise_fid

    def _look_at_real(self, classifier: Classifier, test: Images) -> None:
        assert test.y is not None
        y = torch.from_numpy(test.y)
        outlook = classifying.look(classifier, torch.from_numpy(to_unit(test.x)))
        scale = unit_scale(outlook.features)
        mean, covariance = moments(outlook.features * scale)
        near = outlook.features[:PAIRWISE_MAX] * scale
        shares = torch.bincount(y, minlength=outlook.probabilities.shape[1]).double() / len(y)
        self._reference = Reference(mean, covariance, near, scale, radii(near), shares, modes(outlook.probabilities))
        self.accuracy = float((outlook.probabilities.argmax(1) == y).double().mean())


def why_not(train: Images, test: Images) -> str | None:
    """Why no classifier can be trained on these images; raw pixels are no stand-in for its features."""
    if train.y is None or test.y is None:
        return f"{train.name} has no labels: without a classifier there are no classifier features to score"
    if len(train.labels) < 2:
        return f"{train.name} has only one class: a classifier of it would say nothing"
    if len(test) <= NEIGHBOURS:
        return f"{test.name} holds out {len(test)} images: at least {NEIGHBOURS + 1} are needed to score against"
    return None


def classifier_score(probabilities: Tensor) -> float:
    """exp(mean_x KL(p(y|x) || p(y))) for p (n, classes): the formula of the Inception score (Salimans et al. 2016)."""
    p = probabilities.double()
    marginal = p.mean(0, keepdim=True)
    divergences = (torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(1)  # (n,)
    return float(divergences.mean().exp())


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and unbiased covariance (F, F) of features (n, F), n >= 2, in float64."""
    features = features.double()
    return features.mean(0), torch.cov(features.T)


def unit_scale(features: Tensor) -> float:
    """The factor that gives features (n, F) a mean variance of 1: the classifier's own scale depends on its seed."""
    return float(features.double().var(0).mean().clamp(min=1e-12).rsqrt())


def frechet_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), the FID of Heusel et al. 2017; float64 (F,), (F, F)."""
    root_a = _root(covariance_a)
    middle = torch.linalg.eigvalsh(root_a @ covariance_b @ root_a).clamp(min=0).sqrt().sum()
    spread = covariance_a.trace() + covariance_b.trace() - 2 * middle
    return float((mean_a - mean_b).square().sum() + spread)


def kid(real: Tensor, fake: Tensor) -> float:
    """Squared MMD under the kernel (x.y / F + 1)^3, unbiased (Binkowski et al. 2018); (m, F) and (n, F)."""
    real, fake = real.double(), fake.double()
    return float(_mean_apart(_kernel(real, real)) + _mean_apart(_kernel(fake, fake)) - 2 * _kernel(real, fake).mean())


def radii(features: Tensor) -> Tensor:
    """(m,): the distance of each of features (m, F) to its k-th nearest other one; the farthest if there are fewer."""
    neighbours = min(NEIGHBOURS, len(features) - 1)
    return _distances(features, features).kthvalue(neighbours + 1, dim=1).values


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Precision and recall of Kynkäänniemi et al. 2019, density and coverage of Naeem et al. 2020."""

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhood(real: Tensor, real_radii: Tensor, fake: Tensor) -> Neighbourhood:
    """How fake (n, F) lies among the balls around real (m, F), and the other way round."""
    apart = _distances(real, fake)  # (m, n)
    inside = apart < real_radii[:, None]
    return Neighbourhood(
        precision=float(inside.any(0).double().mean()),
        recall=float((apart < radii(fake)).any(1).double().mean()),
        density=float(inside.double().sum(0).mean()) / NEIGHBOURS,
        coverage=float(inside.any(1).double().mean()),
    )


def modes(probabilities: Tensor) -> int:
    """How many classes hold at least 1 % of the samples (n, classes), counting only those above confidence 0.9."""
    confidence, label = probabilities.max(1)
    counts = torch.bincount(label[confidence > MODE_CONFIDENCE], minlength=probabilities.shape[1])
    return int((counts >= MODE_SHARE * len(probabilities)).sum())


def label_total_variation(probabilities: Tensor, real_shares: Tensor) -> float:
    """Half the summed difference between the samples' label shares and the real ones (classes,)."""
    counts = torch.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]).double()
    return float((counts / len(probabilities) - real_shares).abs().sum() / 2)


def _scored(outlook: Outlook, reference: Reference) -> Scores:
    features = outlook.features * reference.scale
    near = features[:PAIRWISE_MAX]
    among = neighbourhood(reference.features, reference.radii, near)
    countable = reference.modes == int((reference.label_shares >= MODE_SHARE).sum())
    return Scores(
        classifier_score=classifier_score(outlook.probabilities),
        fid_classifier=frechet_distance(reference.mean, reference.covariance, *moments(features)),
        coverage=among.coverage,
        modes=modes(outlook.probabilities) if countable else None,
        label_total_variation=label_total_variation(outlook.probabilities, reference.label_shares),
        kid=kid(reference.features, near),
        precision=among.precision,
        recall=among.recall,
        density=among.density,
        reason=None if countable else UNSURE,
    )


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root; eigenvalues below zero are rounding."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """(m, n). Not through a matrix product: its rounding would leave an image at a distance from itself."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _mean_apart(kernel: Tensor) -> Tensor:
    """The mean over pairs of two different images."""
    count = len(kernel)
    return (kernel.sum() - kernel.trace()) / (count * (count - 1))

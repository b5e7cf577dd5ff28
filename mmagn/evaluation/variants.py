"""Models of an ablation, which see more or less of a galaxy, baselines, and questions about two of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmagn.features.names import FEATURE_NAMES, LINE_FREE_FEATURES
from mmagn.models.config import Branch

Level = Literal["L0", "L2", "L3", "L4", "nuisance", "baseline"]
"""Level of the leakage ladder: all lines; diagnostic lines blanked; image only; a label that no input contains;
nuisance quantities; no network."""
Kind = Literal["network", "logistic", "spline-logistic", "bpt-rule", "constant"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One model of an ablation.

    Attributes
    ----------
    name, level, inputs
        Its name, its level of the leakage ladder, and descriptions of its inputs.
    kind
        A network; logistic regression on the inputs or on splines of them; the two-ratio rule; no positives.
    branches, blank_lines, features
        Settings of the network: ``models.branches``, ``tensors.blank_lines`` and ``tensors.features``. Logistic
        regression on the ten features takes ``features`` too; else its name is that of its input.
    """

    name: str
    level: Level
    inputs: tuple[str, ...]
    kind: Kind = "network"
    branches: tuple[Branch, ...] = ()
    blank_lines: bool = False
    features: tuple[str, ...] = FEATURE_NAMES

    @property
    def learns(self) -> bool:
        """Whether it is a network."""
        return self.kind == "network"

    @property
    def needs_vectors(self) -> bool:
        """Whether it takes the vectors of ``data.embeddings``."""
        return "embedding" in self.branches

    @property
    def title(self) -> str:
        """Description for a sentence."""
        words = [f"the {word}" for word in self.inputs]
        inputs = " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
        match self.kind:
            case "network":
                return inputs
            case "logistic" | "spline-logistic":
                return f"logistic regression on {inputs}"
            case "bpt-rule":
                return f"the two-ratio BPT rule on {inputs} (circular: it made the labels)"
            case "constant":
                return "predicting no AGN"


def _network(name: str, level: Level, *branches: Branch, blank: bool = False) -> Variant:
    words = {"image": "image", "spectrum": "spectrum", "features": "ten features", "embedding": "embedding"}
    if blank:
        words |= {"spectrum": "masked spectrum", "features": "line-free features"}
    return Variant(
        name=name,
        level=level,
        inputs=tuple(words[branch] for branch in branches),
        branches=branches,
        blank_lines=blank,
        features=LINE_FREE_FEATURES if blank else FEATURE_NAMES,
    )


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        _network("handcrafted", "L0", "features"),
        _network("spectrum", "L0", "spectrum"),
        _network("image-spectrum", "L0", "image", "spectrum"),
        _network("fused", "L0", "image", "spectrum", "features"),
        _network("masked-handcrafted", "L2", "features", blank=True),
        _network("masked-spectrum", "L2", "spectrum", blank=True),
        _network("masked-image-spectrum", "L2", "image", "spectrum", blank=True),
        _network("masked-fused", "L2", "image", "spectrum", "features", blank=True),
        _network("image", "L3", "image"),
        _network("embedding", "L0", "embedding"),
        _network("image-spectrum-embedding", "L0", "image", "spectrum", "embedding"),
        _network("fused-embedding", "L0", "image", "spectrum", "features", "embedding"),
        _network("masked-image-spectrum-embedding", "L2", "image", "spectrum", "embedding", blank=True),
        Variant(name="redshift-only", level="nuisance", inputs=("redshift",), kind="spline-logistic"),
        Variant(name="snr-only", level="nuisance", inputs=("S/N of the spectrum",), kind="spline-logistic"),
        Variant(name="survey-only", level="nuisance", inputs=("survey of the spectrum",), kind="logistic"),
        Variant(name="mask-only", level="nuisance", inputs=("map of masked pixels",), kind="logistic"),
        Variant(name="logistic", level="baseline", inputs=("ten features",), kind="logistic"),
        Variant(name="bpt-rule", level="baseline", inputs=("measured line ratios",), kind="bpt-rule"),
        Variant(name="all-negative", level="baseline", inputs=(), kind="constant"),
    )
}
"""All models of an ablation, from the most input to none."""


def ladder_level(branches: Sequence[Branch], features: Sequence[str], *, blanked: bool, independent: bool) -> Level:
    """Return the level of a network on the leakage ladder; vectors count as made of the spectra that it may see.

    ``blanked`` is whether the diagnostic lines of its spectra are, ``independent`` whether its label is made of what no
    input contains, such as a WISE colour.
    """
    lines = (not blanked and not {"spectrum", "embedding"}.isdisjoint(branches)) or (
        "features" in branches and not set(features) <= set(LINE_FREE_FEATURES)
    )
    if independent:
        return "L4"
    return "L0" if lines else "L3" if tuple(branches) == ("image",) else "L2"


DEFAULT_VARIANT = "fused"
"""Model of an ablation that prediction takes by default."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Whether model ``better`` is better than model ``base``."""

    better: Variant
    base: Variant

    @property
    def name(self) -> str:
        """The question as it is written in a config."""
        return f"{self.better.name} - {self.base.name}"

    @property
    def change(self) -> str:
        """The change between the two models, as the beginning of a sentence."""
        more, less = self.better, self.base
        if more.learns and less.learns and set(less.inputs) < set(more.inputs):
            added = [f"the {word}" for word in more.inputs if word not in less.inputs]
            return f"adding {' and '.join(added)} to {less.title}"
        return f"taking {more.title} instead of {less.title}"


def question(text: str) -> Question:
    """Return the question that is written as ``better - base``.

    ``ValueError`` where it is not two different names of ``VARIANTS``.
    """
    names = text.split(" - ")
    unknown = [name for name in names if name not in VARIANTS]
    if unknown or len(names) != 2 or names[0] == names[1]:
        raise ValueError(
            f"ablation.questions has {text!r}; allowed: 'a - b' with two different names of {', '.join(VARIANTS)}"
        )
    return Question(better=VARIANTS[names[0]], base=VARIANTS[names[1]])

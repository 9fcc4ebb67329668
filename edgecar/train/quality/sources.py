"""Which pictures a run learns from, and which it is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgecar.train.data import load_photos, photo_folders
from edgecar.train.degrade import Bgr
from edgecar.train.quality.distort import Distortions, Report, distorted_set
from edgecar.train.quality.proxy import PROXY
from edgecar.train.quality.rated import RatedSet, rated_from_csv, split_by_reference
from edgecar.train.quality.recipe import QualityRecipe

OPINIONS = "opinion scores"
VALIDATION_PHOTOGRAPHS = 10
UNSEEN_NETWORK = "edgecar-m"  # restores test pictures, and none that is trained on


@dataclass(frozen=True)
class Sources:
    """Pictures for a run.

    Attributes:
        training: To learn from.
        held_out: Of other references, by the name of the set.
        target: What their scores are.
        trained_on: In words, for the record.
    """

    training: RatedSet
    held_out: dict[str, RatedSet]
    target: str
    trained_on: str


def opinion_sources(recipe: QualityRecipe, scores: Path) -> Sources:
    """A subjective study, split by reference as in the paper.

    Raises:
        DataError: Of the file, or it has fewer than two references.
    """
    training, held_out = split_by_reference(rated_from_csv(scores), recipe.share, recipe.seed)
    used = len({picture.reference for picture in training.pictures})
    words = f"{scores.stem}: {len(training.pictures)} pictures of {used} references"
    return Sources(training, {scores.stem: held_out}, f"{OPINIONS} of {scores.stem}", words)


def proxy_sources(
    recipe: QualityRecipe, data: list[Path], tests: Sequence[Path], report: Report
) -> Sources:
    """Photographs, distorted and scored by the proxy.

    Args:
        recipe: Says what to make of them.
        data: Folders to train on, or a data set with ``train``, ``test`` and ``val``.
        tests: Folders of other photographs to measure on, besides those that are held out.
        report: Told how many photographs are ready.

    Raises:
        DataError: A folder is missing.
        MediaError: A picture cannot be read.
    """
    folders, validation = photo_folders(data, None)
    photos = load_photos(folders)[: recipe.photographs or None]
    training = distorted_set(
        photos, recipe.distortions, seed=recipe.seed, unchanged=True, report=report
    )
    held_out = _held_out(recipe, validation, tests, report)
    names = ", ".join("/".join(folder.resolve().parts[-2:]) for folder in folders)
    words = f"{len(training.pictures)} pictures made of {len(photos)} photographs of {names}"
    return Sources(training, held_out, PROXY, words)


def held_out_sets(
    recipe: QualityRecipe, data: list[Path], tests: Sequence[Path], report: Report
) -> Sources:
    """The same without anything to learn from; arguments and failures as of `proxy_sources`."""
    _, validation = photo_folders(data, None)
    return Sources(RatedSet([], []), _held_out(recipe, validation, tests, report), PROXY, "")


def _held_out(
    recipe: QualityRecipe, validation: Path, tests: Sequence[Path], report: Report
) -> dict[str, RatedSet]:
    photos = load_photos([validation])[:VALIDATION_PHOTOGRAPHS]
    found = {"validation": _measured_on(photos, recipe, report)}
    for folder in tests:
        found[folder.name] = _measured_on(load_photos([folder]), recipe, report)
    return found


def measured_distortions(recipe: QualityRecipe) -> Distortions:
    """What test pictures are made with: a network that was not trained on restores some."""
    networks = tuple(dict.fromkeys((*recipe.distortions.networks, UNSEEN_NETWORK)))
    return replace(recipe.distortions, networks=networks)


def _measured_on(photos: list[Bgr], recipe: QualityRecipe, report: Report) -> RatedSet:
    return distorted_set(photos, measured_distortions(recipe), seed=recipe.seed + 1, report=report)

"""What a comparison says, in words, and what it does not allow to say."""

from collections.abc import Mapping, Sequence

from mien.evaluation.compare import Entry, compare, effect_words
from mien.evaluation.wording import SPACE, count, interval, is_test, percent, plural, points, sentences, split_plural
from mien.study.comparison import ComparedRow
from mien.study.effects import SettingEffect
from mien.study.published import PUBLISHED

SEED_NOISE = 0.01
"""Smaller differences of accuracy are taken for noise however many the pictures, because seeds differ as well."""

QUESTIONS = {
    "model.attention": ("attention", "none"),
    "model.weights": ("starting from pretrained weights", "scratch"),
}
"""Setting that the published study is about -> what may help, and the value without it."""

ASKED_OF = "resnet50"
"""The published study's network with and without pretrained weights and attention."""


def answer(
    rows: Sequence[ComparedRow], entries: Mapping[str, Entry] | None = None, effects: Sequence[SettingEffect] = ()
) -> list[str]:
    """Paragraphs: which model is best and by how much, what helped, how many seeds, and the published figures.

    Args:
        rows: of the study.
        entries: their stored predictions by recipe; without them nothing is said about chance between two rows.
        effects: what single settings changed.
    """
    ranked = sorted(rows, key=lambda row: -row.accuracy.mean)
    asked = [] if entries is None else questions(rows, effects)
    return [_ranking(ranked, entries), *asked, _seeds(rows), *_against_published(rows)]


def noise(row: ComparedRow) -> float:
    """Below this, a difference of two accuracies says nothing: its standard error at so many pictures, or more."""
    rate = row.accuracy.mean
    return max(SEED_NOISE, float((2 * rate * (1 - rate) / row.count) ** 0.5))


def _ranking(ranked: Sequence[ComparedRow], entries: Mapping[str, Entry] | None) -> str:
    best = ranked[0]
    seeds = f" on average over {plural(len(best.reports), 'seed')}" if len(best.reports) > 1 else ""
    leads = "comes first with" if len(ranked) > 1 else "reaches"
    first = (
        f"{best.title} {leads} {percent(best.accuracy.mean)}{seeds} (95{SPACE}% interval"
        f" {interval(best.interval)}) of {count(best.count)} {split_plural(best.split)}."
    )
    if len(ranked) == 1:
        return first
    last = ranked[-1]
    ends = f"{last.title} comes last with {percent(last.accuracy.mean)}." if len(ranked) > 2 else ""
    return sentences(first, _runner_up(best, ranked[1], entries), ends)


def _runner_up(best: ComparedRow, second: ComparedRow, entries: Mapping[str, Entry] | None) -> str:
    gap = best.accuracy.mean - second.accuracy.mean
    if gap < 0.0005:
        return f"{second.title} is level with it."
    behind = f"{second.title} follows {points(gap)} behind"
    if entries is None:
        return f"{behind}; their predictions are not stored here, so whether that is chance is not known."
    (pair,) = compare([entries[str(row.report["recipe"])] for row in (best, second)])
    return f"{behind} (the first against the second: {effect_words(pair.effect)})."


def questions(rows: Sequence[ComparedRow], effects: Sequence[SettingEffect]) -> list[str]:
    """The published study's questions, each with what these rows show; asked where there is more than one row."""
    if len(rows) < 2:
        return []
    said = []
    for key, (helper, without) in QUESTIONS.items():
        found = [effect for effect in effects if effect.keys == (key,) and effect.words.endswith(f"against {without}")]
        if found:
            listed = "; ".join(effect_sentence(effect) for effect in _main(found))
            said.append(f"Does {helper} help? {listed}.")
        else:
            said.append(f"Whether {helper} helps cannot be said: no two of these rows differ in that alone.")
    together = [effect for effect in effects if effect.keys == tuple(sorted(QUESTIONS))]
    if together:
        said.append(f"Do they help together? {'; '.join(effect_sentence(effect) for effect in together)}.")
    compared = {recipe for effect in effects if set(effect.keys) <= QUESTIONS.keys() for recipe in effect.recipes}
    return [*said, *_stand_ins([row for row in rows if row.report["recipe"] in compared])]


def _main(found: Sequence[SettingEffect]) -> list[SettingEffect]:
    """Without the single differences of which an average over another setting is there."""
    squares = [effect.recipes for effect in found if effect.is_main]
    return [effect for effect in found if not any(effect.recipes < square for square in squares)]


def _stand_ins(rows: Sequence[ComparedRow]) -> list[str]:
    """That an answer on FER-2013 is not about the network of which the published study asked."""
    if not rows or any(row.report["data"] != "fer2013" or row.report["model"] == ASKED_OF for row in rows):
        return []
    networks = list(dict.fromkeys(f"{row.report['model']} at {row.report['input_size']} px" for row in rows))
    published = PUBLISHED["rows"][ASKED_OF]
    stand = "stands" if len(networks) == 1 else "stand"
    return [
        f"The published study asks this of a {published['title']} that starts from ImageNet weights, at"
        f" {published['input_size']} px; {_listed(networks)} {stand} in for it here, so how large an effect is there"
        " remains open."
    ]


def effect_sentence(effect: SettingEffect) -> str:
    """``cbam against none (compact_resnet): +0.3 points, 95 % interval -0.9 to +1.5, five seeds: no effect shown``."""
    return f"{effect.words} ({effect.within}): {effect_words(effect.effect, effect.is_shown)}"


def _seeds(rows: Sequence[ComparedRow]) -> str:
    numbers = {len(row.reports) for row in rows}
    chance = (
        f"Differences under about {plural(round(100 * max(map(noise, rows))), 'point')} between single runs are noise."
    )
    if numbers == {1}:
        return f"Each model was trained once, with one seed, so its spread from seed to seed is not known. {chance}"
    many = f"{min(numbers)} to {max(numbers)}" if len(numbers) > 1 else str(max(numbers))
    return f"Each model was trained with {many} seeds; the table gives mean and standard deviation. {chance}"


def _against_published(rows: Sequence[ComparedRow]) -> list[str]:
    known = [(row, row.published["accuracy"]) for row in rows if row.published is not None and is_test(row.split)]
    alike = [_distance(row, published) for row, published in known if not row.deviations]
    other = [row.title for row, _ in known if row.deviations]
    found = []
    if alike:
        found.append(f"In the published configuration: {'; '.join(alike)}. The published figures are single runs too.")
    if other:
        found.append(
            f"{_listed(other)} {'is' if len(other) == 1 else 'are'} not in the published configuration (see the"
            " table), so the distance from the published figure says nothing about that figure."
        )
    return found


def _distance(row: ComparedRow, published: float) -> str:
    gap = row.accuracy.mean - published
    side = "above" if gap > 0 else "below"
    return f"{row.title} {percent(row.accuracy.mean)}, {points(gap)} {side} the published {percent(published)}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

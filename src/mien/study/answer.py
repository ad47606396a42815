"""What a comparison says, in words, and what it does not allow to say."""

from collections.abc import Sequence

from mien.evaluation.wording import SPACE, count, interval, is_test, percent, plural, points, sentences, split_plural
from mien.study.comparison import ComparedRow

SEED_NOISE = 0.01
"""Smaller differences of accuracy are taken for noise however many the pictures, because seeds differ as well."""


def answer(rows: Sequence[ComparedRow]) -> list[str]:
    """Paragraphs: which model is best and by how much, how many seeds stand behind it, and the published figures."""
    return [_ranking(sorted(rows, key=lambda row: -row.accuracy.mean)), _seeds(rows), *_against_published(rows)]


def noise(row: ComparedRow) -> float:
    """Below this, a difference of two accuracies says nothing: its standard error at so many pictures, or more."""
    rate = row.accuracy.mean
    return max(SEED_NOISE, float((2 * rate * (1 - rate) / row.count) ** 0.5))


def _ranking(ranked: Sequence[ComparedRow]) -> str:
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
    return sentences(first, _runner_up(best, ranked[1]), ends)


def _runner_up(best: ComparedRow, second: ComparedRow) -> str:
    gap = best.accuracy.mean - second.accuracy.mean
    if gap < 0.0005:
        return f"{second.title} is level with it."
    behind = f"{second.title} follows {points(gap)} behind"
    if gap < noise(best):
        return f"{behind}: no more than chance, so the two count as equal."
    if second.interval[1] > best.interval[0]:
        return f"{behind}; their intervals overlap, which leaves the order open."
    return f"{behind}, and their intervals do not overlap."


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

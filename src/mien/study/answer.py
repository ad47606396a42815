"""What a comparison says, in words, and what it does not allow to say."""

from collections.abc import Sequence

from mien.evaluation.wording import NOISE, count, interval, is_test, percent, plural, points, sentences, split_plural
from mien.study.comparison import ComparedRow


def answer(rows: Sequence[ComparedRow]) -> list[str]:
    """Paragraphs: which model is best and by how much, how many seeds stand behind it, and the published figures."""
    ranked = sorted(rows, key=lambda row: -row.accuracy.mean)
    return [part for part in (_ranking(ranked), _seeds(rows), *_against_published(rows)) if part]


def _ranking(ranked: Sequence[ComparedRow]) -> str:
    best = ranked[0]
    seeds = f" on average over {plural(len(best.reports), 'seed')}" if len(best.reports) > 1 else ""
    leads = "is best with" if len(ranked) > 1 else "reaches"
    first = (
        f"{best.title} {leads} {percent(best.accuracy.mean)}{seeds} (95 % interval {interval(best.interval)})"
        f" of {count(best.count)} {split_plural(best.split)}."
    )
    if len(ranked) == 1:
        return first
    last = ranked[-1]
    ends = f"{last.title} comes last with {percent(last.accuracy.mean)}." if len(ranked) > 2 else ""
    return sentences(first, _runner_up(best, ranked[1]), ends)


def _runner_up(best: ComparedRow, second: ComparedRow) -> str:
    gap = best.accuracy.mean - second.accuracy.mean
    behind = f"{second.title} follows {points(gap)} behind"
    if gap < NOISE:
        single = min(len(best.reports), len(second.reports)) == 1
        limit = "single runs differ by about 1 point by chance" if single else "that is less than about 1 point"
        return f"{behind}; {limit}, so the two count as equal."
    if second.interval[1] > best.interval[0]:
        return f"{behind}; their intervals overlap."
    return f"{behind}, and their intervals do not overlap."


def _seeds(rows: Sequence[ComparedRow]) -> str:
    numbers = {len(row.reports) for row in rows}
    noise = "Differences under about 1 point between single runs are noise."
    if numbers == {1}:
        return f"Each model was trained once, with one seed, so its spread from seed to seed is not known. {noise}"
    many = f"{min(numbers)} to {max(numbers)}" if len(numbers) > 1 else str(max(numbers))
    return f"Each model was trained with {many} seeds; the table gives mean and standard deviation. {noise}"


def _against_published(rows: Sequence[ComparedRow]) -> list[str]:
    known = [row for row in rows if row.published is not None]
    if not known or not is_test(rows[0].split):
        return []
    alike = [_distance(row) for row in known if not row.deviations]
    other = [row.title for row in known if row.deviations]
    found = []
    if alike:
        found.append(f"In the published configuration: {'; '.join(alike)}. The published figures are single runs too.")
    if other:
        found.append(
            f"{_listed(other)} {'is' if len(other) == 1 else 'are'} not in the published configuration (see the"
            " table), so the distance from the published figure says nothing about that figure."
        )
    return found


def _distance(row: ComparedRow) -> str:
    published = row.published["accuracy"] if row.published is not None else 0.0
    gap = row.accuracy.mean - published
    side = "above" if gap > 0 else "below"
    return f"{row.title} {percent(row.accuracy.mean)}, {points(gap)} {side} the published {percent(published)}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

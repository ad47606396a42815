"""What the rows of a study show together: who comes first, from whom that can be told, what single settings changed.

For the study's page and for the terminal: the sentences are those of ``templates/study_words.j2``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mien.evaluation import compare as comparisons
from mien.evaluation import significance
from mien.evaluation.compare import SIGNIFICANT
from mien.evaluation.majority import Majority, better_than_always
from mien.report.html import render_sentences
from mien.runs import Report
from mien.runs.report import is_test
from mien.study import published
from mien.study.comparison import ComparedRow
from mien.study.effects import NearPair, SettingEffect, entries_of, nearest_pair, setting_effects

MAX_CROSSED = 16
"""Of more rows, what single settings changed is not told, since every four of them would be crossed; and the first is
compared with the best of them only."""

QUESTIONS = {"model.attention": "none", "model.weights": "scratch"}
"""Settings that the published study is about -> the value without what may help."""

ASKED_OF = "resnet50"
"""The published study's network with and without pretrained weights and attention."""


@dataclass(frozen=True)
class Answers:
    """What the rows of a study show of the published study's questions.

    Attributes:
        by_setting: key -> its effects; of those that an average over another setting is made of, the average alone.
        together: effects of both settings, beyond the sum of each.
        stand_ins: models and input sizes in place of the network that the published study asks of.
        nearest: key without effects -> the rows that come nearest to one.
    """

    by_setting: Mapping[str, Sequence[SettingEffect]]
    together: Sequence[SettingEffect]
    stand_ins: Sequence[tuple[str, int | None]]
    nearest: Mapping[str, NearPair | None]


def answers(rows: Sequence[ComparedRow], effects: Sequence[SettingEffect]) -> Answers | None:
    """What these rows show of the published study's questions; ``None`` of a single row, of which nothing is asked."""
    if len(rows) < 2:
        return None
    by_setting = {
        key: _without_parts(
            [each for each in effects if each.contrast.keys == (key,) and each.contrast.values[1] == without]
        )
        for key, without in QUESTIONS.items()
    }
    together = [each for each in effects if each.contrast.keys == tuple(sorted(QUESTIONS))]
    asked = {name for each in effects if set(each.contrast.keys) <= QUESTIONS.keys() for name in each.contrast.recipes}
    nearest = {key: nearest_pair(rows, key) for key, found in by_setting.items() if not found}
    return Answers(by_setting, together, _stand_ins([row.report for row in rows if row.name in asked]), nearest)


def _without_parts(found: Sequence[SettingEffect]) -> list[SettingEffect]:
    """Without the single differences of which an average over another setting is there."""
    squares = [each.contrast.recipes for each in found if each.contrast.averaged_over]
    return [each for each in found if not any(each.contrast.recipes < square for square in squares)]


def _stand_ins(reports: Sequence[Report]) -> list[tuple[str, int | None]]:
    """Networks on FER-2013 that are not the one of which the published study asks; none where that one is there."""
    if any(report.data != "fer2013" or report.model == ASKED_OF for report in reports):
        return []
    return list(dict.fromkeys((report.model, report.input_size) for report in reports))


@dataclass(frozen=True)
class Noise:
    """Differences of two single runs that say nothing: 95 % of those between runs that are equally good are smaller.

    Attributes:
        images: by the chance choice of images alone, ``1.96 * sqrt(2 p q / n)``; for the row where it is largest.
        seeds: between two seeds of one recipe on these images; ``None`` where no recipe has two.
    """

    images: float
    seeds: float | None

    @property
    def points(self) -> float:
        """The larger of both."""
        return max(self.images, self.seeds or 0.0)


def noise(rows: Sequence[ComparedRow]) -> Noise:
    """What differences between these rows' single runs are to be taken for noise."""
    variances = [2 * row.accuracy.mean * (1 - row.accuracy.mean) / row.result.n for row in rows]
    several = [row for row in rows if len(row.results) > 1]
    freedom = sum(len(row.results) - 1 for row in several)
    squares = sum((len(row.results) - 1) * (row.accuracy.deviation or 0.0) ** 2 for row in several)
    seeds = None if not freedom else float(significance.student(freedom) * (2 * squares / freedom) ** 0.5)
    return Noise(float(significance.NORMAL * max(variances) ** 0.5), seeds)


@dataclass(frozen=True)
class Conclusions:
    """What the sentences of a comparison say.

    Attributes:
        ranked: the rows, the highest accuracy first.
        entries: their predictions by name, where all are stored.
        always: Training's most frequent class as the only answer, where it is known.
        at_chance: rows that are not shown to be better than that.
        effects: of single settings.
        answers: what they say of the published study's questions.
        noise: what differences are to be taken for noise.
        as_published: rows in the published configuration, on test images; ``not_as_published``: in another one.
    """

    ranked: Sequence[ComparedRow]
    entries: Mapping[str, comparisons.Entry] | None
    always: Majority | None
    at_chance: Sequence[ComparedRow]
    effects: Sequence[SettingEffect]
    answers: Answers | None
    noise: Noise
    as_published: Sequence[ComparedRow]
    not_as_published: Sequence[ComparedRow]

    @cached_property
    def pairs(self) -> Sequence[comparisons.Pair]:
        """The first row against each of the next ones; adjusted over all pairs, since any row could have come first."""
        if self.entries is None:
            return []
        first, *others = [row.name for row in self.ranked[:MAX_CROSSED]]
        pairs = comparisons.compare([self.entries[name] for name in (first, *others)])
        of_other = {
            pair.other if pair.one == first else pair.one: pair for pair in pairs if first in (pair.one, pair.other)
        }
        return [of_other[name] for name in others]

    @property
    def level(self) -> list[ComparedRow]:
        """Rows from which the first cannot be told at 95 %."""
        return [row for row, pair in zip(self.ranked[1:], self.pairs, strict=False) if not pair.is_shown]


def conclude(rows: Sequence[ComparedRow]) -> Conclusions:
    """What the rows of a study, or of any comparison, show together."""
    entries = entries_of(rows)
    effects = [] if entries is None or len(rows) > MAX_CROSSED else setting_effects(rows, entries)
    ranked = sorted(rows, key=lambda row: -row.accuracy.mean)
    compared = [row for row in rows if row.published is not None and is_test(row.split)]
    return Conclusions(
        ranked=ranked,
        entries=entries,
        always=rows[0].always(),
        at_chance=at_chance(ranked),
        effects=effects,
        answers=None if entries is None else answers(rows, effects),
        noise=noise(rows),
        as_published=[row for row in compared if not row.deviations],
        not_as_published=[row for row in compared if row.deviations],
    )


def conclusion_sentences(rows: Sequence[ComparedRow]) -> list[str]:
    """The headline of the study's page and its answers, for the terminal."""
    values = {"told": conclude(rows), "published": published.PUBLISHED}
    return [line for line in render_sentences("study.txt.j2", values) if line]


def at_chance(rows: Sequence[ComparedRow]) -> list[ComparedRow]:
    """Rows that are not shown to be better than always answering with the most frequent class (Holm over the rows)."""
    known = [(row, found.name) for row in rows if (found := row.always()) is not None]
    p_values = [
        better_than_always(name, [result.counts for result in row.results], row.report.classes) for row, name in known
    ]
    adjusted = significance.holm(p_values)
    return [row for (row, _), p_value in zip(known, adjusted, strict=True) if p_value >= SIGNIFICANT]

"""Templates -> pages that need nothing but themselves: no network, no other file."""

from collections.abc import Mapping, Sequence
from typing import Any

from mien.errors import import_extra
from mien.evaluation import wording

FILTERS = (
    wording.bounds,
    wording.count,
    wording.data_title,
    wording.duration,
    wording.fixed,
    wording.interval,
    wording.percent,
    wording.plural,
    wording.short,
    wording.spelled,
)


def render_page(template: str, values: Mapping[str, Any], packages: Sequence[str] = ("mien.evaluation",)) -> str:
    """A page as text. Whatever ``values`` hold is escaped; a name that the template wants and they lack is an error.

    Args:
        template: file name, such as ``report.html.j2``.
        values: name in the template -> value.
        packages: whose ``templates`` folders are searched, in this order.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    jinja2 = import_extra("jinja2", "report")
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {function.__name__: function for function in FILTERS}
    environment.globals |= {"split_titles": wording.SPLIT_TITLES}
    page: str = environment.get_template(template).render(values)
    return page + "\n"

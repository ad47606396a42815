"""Templates -> pages that need nothing but themselves: no network, no other file.

To add a page to every run: one file beside this one, which gathers numbers and calls :func:`render_page`, one template
in ``templates/``, which extends ``base.html.j2`` and holds the words, and a line in ``run_page.PAGES``. To add a plot:
see ``plots``.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mien.errors import import_extra
from mien.report import format as formats


def create_environment(*folders: Path, escape: bool) -> Any:
    """A jinja2 environment of these folders' templates, then of this package's, with the filters of ``format``.

    ``escape``: whatever is filled in is escaped for HTML. A name that a template wants and does not get is an error.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    jinja2 = import_extra("jinja2", "report")
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.FileSystemLoader(folders), jinja2.PackageLoader("mien.report")]),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(inspect.getmembers(formats, inspect.isfunction))
    environment.globals["initializations"] = formats.INITIALIZATIONS
    return environment


def render_page(template: str, values: Mapping[str, object]) -> str:
    """A page as text, from a template such as ``run.html.j2`` and its values by name; raises ``MissingExtraError``."""
    page: str = create_environment(escape=True).get_template(template).render(values)
    return page + "\n"


def render_sentences(template: str, values: Mapping[str, object]) -> list[str]:
    """Sentences for the terminal, one a line of the template; raises ``MissingExtraError``."""
    text: str = create_environment(escape=False).get_template(template).render(values)
    return text.split("\n")

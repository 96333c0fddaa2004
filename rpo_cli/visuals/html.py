"""Pages through Jinja2: every value is escaped and cleaned at the one place where it is printed.

A page holds no script and loads nothing but the pictures beside it: its content security policy allows
the one style sheet by hash, and forbids all else.
"""

import base64
import hashlib
import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

LONGEST = 4000  # characters of one value
# C0 and C1 controls but tab and newline; marks that reverse the reading direction; lone surrogates
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """Untrusted text as it may stand in a page: what cannot be seen is a replacement mark, the rest cut."""
    kept = _UNSEEN.sub("\ufffd", text[:LONGEST])
    return kept if len(text) <= LONGEST else f"{kept}… ({len(text):,} characters)"


def render(template: str, **values: Any) -> str:
    """A page from its template; equal values give equal text."""
    style, policy = _style()
    return _environment().get_template(template).render(style=style, policy=policy, **values)


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("rpo_cli.visuals"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"count": lambda number: f"{number:,}", "short": short, "share": share}
    return found


def _printed(value: Any) -> Any:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def short(number: float | None, sign: bool = False) -> str:
    """Four significant digits; "–" for None and nan."""
    if number is None or number != number:
        return "–"
    return f"{number:+.4g}" if sign else f"{number:.4g}"


def share(number: float) -> str:
    """A share of 1 in per cent."""
    return "–" if number != number else f"{100 * number:.1f} %"


@cache
def _style() -> tuple[Markup, str]:
    """The style sheet, and the policy that allows it and pictures from the report's own folder."""
    environment = _environment()
    assert environment.loader is not None
    text = environment.loader.get_source(environment, "report.css")[0]
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    # 'self' is the folder on a server, file: the folder on a disk, where there is no origin
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src 'self' file:"
    return Markup(text), f"{policy}; base-uri 'none'; form-action 'none'"

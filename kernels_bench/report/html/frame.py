"""What every page has: one file with its style and script inside, which may load nothing and run nothing else.

Texts are escaped by the template engine.  Should one slip through, the page's own policy still refuses it: it names the
one style and the one script that may take effect by their hashes, and no place from where anything may be loaded.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

LOOKS = 10
"""Colours of lines; further lines have these again, with other marks."""


def render(template: str, package: str = __package__, **context: object) -> str:
    """A page from a template.

    Args:
        template: its file name.
        package: in whose folder ``templates`` it lies; it may extend those of this one.
        context: what it tells of; plain text is escaped.
    """
    engine = Environment(
        loader=ChoiceLoader([PackageLoader(one, "templates") for one in (package, __package__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    text = engine.get_template(template).render(
        style=Markup(style), script=Markup(script), policy=policy, looks=LOOKS, **context
    )
    # Foreign text may hold halves of characters, which no file can.
    return text.encode("utf-8", "replace").decode()


def _asset(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """How a policy names a text that stands in the page itself."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"

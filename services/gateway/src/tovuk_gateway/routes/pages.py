"""Pages for people: the error catalogue, and what a plan is, until there is a checkout."""

from html import escape
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse

from tovuk_gateway.envelope import HTML, Answer
from tovuk_gateway.errors import NoSuchRoute
from tovuk_gateway.routes import contract
from tovuk_gateway.routes.context import Context, Reply, embedded
from tovuk_kit.errors import Entry, catalogue

Code = Annotated[str, Path(description="A code of the catalogue.", examples=["usage_cap_reached"])]
Plan = Annotated[str, Path(description="A plan's name.", examples=["pro"])]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}}
code{{background:#f2f2f2;padding:.1em .3em}}dt{{font-weight:600}}</style>
</head>
<body>
<h1>{title}</h1>
{content}
</body>
</html>
"""

# Nothing on these pages runs or loads anything.
_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"x-content-type-options", b"nosniff"),
)


def router(context: Context) -> APIRouter:
    """The pages; none needs a token."""
    routes = APIRouter(tags=["pages"], default_response_class=HTMLResponse)

    @routes.get(
        "/docs/errors",
        operation_id="listErrorPages",
        summary="Every error code",
        responses=contract.errors(public=True),
    )
    async def list_errors() -> Any:
        """The catalogue."""
        items = "".join(
            f'<li><a href="/docs/errors/{escape(code)}"><code>{escape(code)}</code></a> {entry.family.http}</li>\n'
            for code, entry in sorted(catalogue().items())
        )
        return _page("Error codes", f"<ul>\n{items}</ul>")

    @routes.get(
        "/docs/errors/{code:segment}",
        operation_id="getErrorPage",
        summary="What an error code means",
        responses=contract.errors(public=True),
    )
    async def show_error(code: Code) -> Any:
        """Where docs_url points."""
        entry = catalogue().get(code)
        if entry is None:
            raise NoSuchRoute
        return _page(code, _error(entry))

    @routes.get(
        "/plans/{plan:segment}",
        operation_id="getPlanPage",
        summary="What a plan is and how to get it",
        responses=contract.errors("service_unavailable", public=True),
    )
    async def show_plan(plan: Plan) -> Any:
        """Where checkout_url points until there is a checkout."""
        plans = embedded((await context.metering.catalogue()).plans_json) or []
        found = next((item for item in plans if plan in {item.get("name"), item.get("key")}), None)
        if found is None:
            raise NoSuchRoute
        rows = "".join(
            f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>\n"
            for name, value in sorted((found.get("limits") or {}).items())
        )
        contact = escape(context.operator_contact)
        return _page(
            f"The {plan} plan",
            f"<p>To move an account to this plan, ask {contact}.</p>\n<h2>Limits</h2>\n<dl>\n{rows}</dl>",
        )

    return routes


def _error(entry: Entry) -> str:
    paragraphs = "".join(f"<p>{escape(part)}</p>\n" for part in entry.explanation.split("\n\n") if part)
    retry = "A repeat may succeed." if entry.family.retryable else "A repeat of the same request gives the same answer."
    return (
        f"<dl>\n<dt>HTTP status</dt><dd>{entry.family.http}</dd>\n"
        f"<dt>Message</dt><dd>{escape(entry.message)}</dd>\n"
        f"<dt>Next step</dt><dd>{escape(entry.agent_instruction)}</dd>\n"
        f"<dt>Repeating</dt><dd>{retry}</dd>\n</dl>\n{paragraphs}"
        '<p><a href="/docs/errors">Every error code</a></p>'
    )


def _page(title: str, content: str) -> Reply:
    html = _PAGE.format(title=escape(title), content=content)
    return Reply(Answer(200, html.encode(), _HEADERS, HTML))

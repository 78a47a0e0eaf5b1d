"""What the routes say of themselves in the OpenAPI file: bodies, errors, security, parameters."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tovuk_gateway.envelope import Envelope
from tovuk_gateway.routes import models
from tovuk_kit.errors import catalogue

#: Documents the security of a route; the chain does the work.
bearer = HTTPBearer(auto_error=False, description="A user, read, runtime or operator token.")

_EVERYWHERE = ("invalid_path", "not_found", "method_not_allowed", "internal_error")
_AUTHENTICATED = ("unauthenticated", "forbidden_scope", "service_unavailable")
_bodies: dict[str, type[BaseModel]] = {}


def errors(*codes: str, public: bool = False) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, by status, each code with its example. Unknown codes fail at import."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in dict.fromkeys((*codes, *(() if public else _AUTHENTICATED), *_EVERYWHERE)):
        entry = catalogue()[code]
        answer = by_status.setdefault(
            entry.family.http,
            {"model": models.ErrorEnvelope, "description": "", "content": {"application/json": {"examples": {}}}},
        )
        answer["description"] = f"{answer['description']}, {code}".removeprefix(", ")
        answer["content"]["application/json"]["examples"][code] = {
            "value": {
                "code": code,
                "message": entry.message,
                "agent_instruction": entry.agent_instruction,
                "docs_url": f"/docs/errors/{code}",
                "retryable": entry.family.retryable,
                "outcome": "not_done",
                "request_id": "request_1f6c0d2a9b4e8d3f6a50",
            }
        }
    return by_status


def answers(model: type[BaseModel], *codes: str, public: bool = False) -> dict[int | str, dict[str, Any]]:
    """The answers of a route: its success and its errors."""
    return {200: {"model": model, "description": "Done."}, **errors(*codes, public=public)}


def body(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route whose body has this schema; the route itself parses the bytes, strictly."""
    _bodies[model.__name__] = model
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def query(**parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route with these query parameters, each a JSON schema."""
    return {"parameters": [_parameter("query", name, schema) for name, schema in parameters.items()]}


def headers(**parameters: str) -> list[dict[str, Any]]:
    """Header parameters with their descriptions, to extend `parameters` of `openapi_extra`."""
    return [
        _parameter("header", name.replace("_", "-"), {"type": "string", "description": text})
        for name, text in parameters.items()
    ]


def _parameter(place: str, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    rest = dict(schema)
    description = rest.pop("description", "")
    return {"name": name, "in": place, "required": False, "description": description, "schema": rest}


def document(app: FastAPI, envelope: Envelope) -> dict[str, Any]:
    """The OpenAPI file."""
    spec = get_openapi(
        title="Tovuk",
        version="1",
        description="Every operation is metered; a cap is a hard stop. Errors have one envelope on every route.",
        routes=app.routes,
        servers=[{"url": envelope.public_url}],
    )
    _, definitions = models_json_schema(
        [(model, "validation") for model in _bodies.values()], ref_template="#/components/schemas/{model}"
    )
    schemas = spec.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in definitions.get("$defs", {}).items():
        schemas.setdefault(name, schema)
    return spec

import importlib
import pkgutil
from collections.abc import Iterator
from string import Formatter

import grpc
import pytest

import tovuk_kit
from tovuk_kit.errors import (
    Entry,
    Family,
    InternalError,
    Outcome,
    RemoteError,
    ServiceUnavailable,
    TovukError,
    catalogue,
)

#: The HTTP statuses the gateway may answer a failure with, each with the gRPC status it travels as.
STATUSES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    402: grpc.StatusCode.RESOURCE_EXHAUSTED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ALREADY_EXISTS,
    412: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.OUT_OF_RANGE,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    431: grpc.StatusCode.OUT_OF_RANGE,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

ENTRIES = [pytest.param(entry, id=entry.code) for entry in catalogue().values()]


def facts(base: type[TovukError] = TovukError) -> Iterator[type[TovukError]]:
    for fact in base.__subclasses__():
        yield fact
        yield from facts(fact)


def test_every_http_status_of_a_failure_has_one_family_and_its_grpc_status() -> None:
    assert {family.http: family.status for family in Family} == STATUSES
    assert len(Family) == len(STATUSES)


def test_families_say_that_a_repeat_may_help_where_time_or_room_may() -> None:
    assert {family.http for family in Family if family.retryable} == {408, 429, 503, 507}


@pytest.mark.parametrize("entry", ENTRIES)
def test_code_is_snake_case_and_fits_a_docs_path(entry: Entry) -> None:
    assert entry.code.replace("_", "").isalnum()
    assert entry.code == entry.code.lower()
    assert entry.code.isidentifier()


@pytest.mark.parametrize("entry", ENTRIES)
def test_message_is_a_sentence_whose_fields_are_names(entry: Entry) -> None:
    fields = [field for _, field, _, _ in Formatter().parse(entry.message) if field is not None]
    assert all(field.isidentifier() for field in fields)
    assert entry.message.endswith(".")
    assert entry.message.format_map(dict.fromkeys(fields, "x"))


@pytest.mark.parametrize("entry", ENTRIES)
def test_agent_instruction_is_constant_text(entry: Entry) -> None:
    assert not set("{}") & set(entry.agent_instruction)
    assert entry.agent_instruction.endswith(".")


def test_every_fact_of_the_kit_is_in_the_catalogue() -> None:
    for module in pkgutil.iter_modules(tovuk_kit.__path__):
        importlib.import_module(f"tovuk_kit.{module.name}")
    found = {fact for fact in facts() if fact.__module__.startswith("tovuk_kit.")}
    assert ServiceUnavailable in found
    assert [fact for fact in found if fact.code not in catalogue()] == []


def test_error_fills_its_message_and_tells_its_family() -> None:
    error = ServiceUnavailable(service="kv")
    assert error.message == "The kv service cannot be reached at the moment; nothing was done."
    assert error.entry.family is Family.UNAVAILABLE
    assert error.outcome is Outcome.NOT_DONE
    assert str(error) == f"service_unavailable: {error.message}"


def test_params_are_texts_whatever_was_given() -> None:
    assert ServiceUnavailable(service=7).params == {"service": "7"}


@pytest.mark.parametrize("value", ["{0}", "{service.__class__}", "%s", "\n{"])
def test_param_is_never_a_template_itself(value: str) -> None:
    assert value in ServiceUnavailable(service=value).message


def test_remote_code_nobody_here_knows_is_an_internal_error() -> None:
    error = RemoteError("code_of_tomorrow", {"x": "y"}, Outcome.DONE, None)
    assert error.code == InternalError.code
    assert error.message == InternalError().message
    assert error.outcome is Outcome.DONE

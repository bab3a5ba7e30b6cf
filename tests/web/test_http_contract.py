"""The API against its own OpenAPI document: generated requests get documented answers, and never a server error."""

from __future__ import annotations

import os

import httpx
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks
from web_kit import Api

from agnt5.web import create_api

EXAMPLES = int(os.environ.get("AGNT5_TEST_EXAMPLES", "5"))

document = create_api(pages=False).openapi()
# streams go on while the run does; they have tests of their own
schema = schemathesis.openapi.from_dict(document).exclude(path_regex="/(events|stream|agui)$|/agui/")


def test_the_document_describes_every_route():
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert route["summary"], path
            assert route.get("description"), path
            if "/health" not in path:
                assert "503" in route["responses"], path
            if not path.endswith(("/health", "/ready", "/links/{token}")):
                assert route["security"] == [{"token": []}], path
                for status in ("401", "403", "422"):
                    assert "application/problem+json" in route["responses"][status]["content"], path
            assert method in {"get", "post", "delete"}
    assert "HTTPValidationError" not in str(document)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
def test_generated_requests_get_documented_answers(case: schemathesis.Case, api: Api):
    if isinstance(case.query, dict) and isinstance(case.query.get("wait_s"), int | float):
        case.query["wait_s"] /= 1000  # as long as the test may take
    headers = {"Authorization": f"Bearer {api.secrets['root']}"}
    answer = case.call(base_url=api.url, headers=headers, timeout=20)
    case.validate_response(
        answer,
        checks=[
            checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
            checks.response_schema_conformance, checks.response_headers_conformance,
        ],
    )  # fmt: skip


def test_the_document_is_served(api: Api):
    served = httpx.get(f"{api.url}/api/v1/openapi.json").json()
    assert served["paths"].keys() == document["paths"].keys()

from types import ModuleType

SCOPES = {"KV-001": "now", "KV-002": "now", "KV-003": "later: queue", "KV-004": "heading"}


def test_every_sentence_of_now_needs_a_test(report_module: ModuleType) -> None:
    text, status = report_module.report(SCOPES, {"KV-001": ["tests/a.py::test_a"]}, {"KV-002": "Keys are small."})
    assert status == 1
    assert "UNPROVED KV-002  Keys are small." in text
    assert "1 of 2 sentences proved" in text


def test_an_unknown_id_fails_the_report(report_module: ModuleType) -> None:
    proofs = {"KV-001": ["a"], "KV-002": ["a"], "KV-999": ["tests/a.py::test_typo"]}
    text, status = report_module.report(SCOPES, proofs, {})
    assert status == 1
    assert "UNKNOWN  KV-999  tests/a.py::test_typo" in text


def test_later_parts_and_headings_owe_no_proof(report_module: ModuleType) -> None:
    _, status = report_module.report(SCOPES, {"KV-001": ["a"], "KV-002": ["a"]}, {})
    assert status == 0


def test_the_scope_lists_every_sentence_of_the_seed_documents(report_module: ModuleType) -> None:
    scopes = report_module.scope()
    assert len(scopes) == 276
    known = {"now", "advice", "heading"}
    assert {where for where in scopes.values() if not where.startswith("later: ")} == known
    assert list(report_module.texts()) == list(scopes)

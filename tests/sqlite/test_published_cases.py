"""SQLite's own published cases, over HTTP: each that plain SQLite reproduces outside of its own harness.

A case goes to a database and to SQLite in this process, statement by statement. What SQLite does not reproduce (the
case leans on Tcl, on test functions, on settings of the harness) is no case. What the database does not take is
counted apart, and every such refusal is explained here.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass, field

import pytest
from lockstep import Denied, Differs, Endless, Lockstep, Said
from product import Product
from published_cases import Block, CasesMissing, blocks, scripts, words
from tenant import Tenant
from tenant_database import TenantDatabase

#: Of the scripts, those of the short form: every so-many-th.
_SHARE_SHORT = 6
#: Parts that all of them are run in.
_PARTS = 8
#: Cases that pass: in the short form together, of all in each part.
_PASSED_MIN = 2_000
_PASSED_OF_PART_MIN = 500
#: This keeps lists short.
_SCRIPTS_PER_TENANT = 40

#: Scripts that are left out, and why.
_LEFT_OUT = {
    "countofview.test": "a query without an end, which the harness interrupts",
    "view3.test": "a query without an end, which the harness interrupts",
}
#: What a database does not take, by the words of its refusal, and why.
_REFUSALS = {
    r"transactions and savepoints": "a request is a transaction; one that spans requests would hold the only writer",
    r"ATTACH, DETACH and VACUUM|cannot VACUUM": "nothing outside of the tenant's own file is reachable",
    r"temporary objects": "connections are shared by requests: nothing of one may be seen by the next",
    r"PRAGMA \w+": "the service's own settings keep what it promises: durability, limits, other tenants' peace",
    r"virtual tables of module|the module \w+": "modules that reach files, other tables or the process are left out",
    r"function \w+": "functions that load code or reach the process are left out",
    r"the table sqlite_|names that begin with _tovuk|that table is the platform's": "what lies beneath, or is ours",
}
#: Where a database says something else than SQLite, by the statement, and why.
_DIFFERENCES = {
    r"(?i)rootpage|\bfrom\s+(main\.)?sqlite_(master|schema)\b": "our usage table has a page and a row of its own",
    r"(?i)\bexplain\b": "the columns of costs depend on how SQLite was built",
    r"(?i)pragma\s+auto_vacuum": "free pages can be given back: files are made so",
    r"(?i)\bpragma\b": "tells a setting of ours",
    r"(?i)\brandomblob\b": "rows made at random",
    r"(?i)fts3_tokenizer|load_extension|sqlite_compileoption|sqlite_source_id|\bpercentile|\bcarray\b|\bv110\b": (
        "how SQLite was built"
    ),
}
_WHOLE = "OR FAIL and OR ROLLBACK keep what came before in SQLite; a request is done as a whole or not at all"
_SESSION = "nothing of one request is seen by the next: changes() and last_insert_rowid() begin at 0"
#: The same by script and case, where the statement does not tell; the rest of the script is passed over.
_CASES = {
    ("check.test", "check-6.6"): _WHOLE,
    ("conflict3.test", "1.4"): _WHOLE,
    ("insert4.test", "insert4-8.6"): _WHOLE,
    ("trigger2.test", "trigger2-6.1e"): _WHOLE,
    ("without_rowid4.test", "without_rowid4-6.1e"): _WHOLE,
    ("e_changes.test", "7.3"): _SESSION,
    ("lastinsert.test", "lastinsert-1.1"): _SESSION,
    ("laststmtchanges.test", "laststmtchanges-1.1"): _SESSION,
    ("rowid.test", "rowid-8.3"): _SESSION,
    ("incrblob2.test", "incrblob2-7.1"): "a value has at most 4 MiB",
    ("fts3atoken.test", "fts3atoken-1.13"): "how SQLite was built: a trigger calls fts3_tokenizer()",
    ("printf.test", "printf-16.1"): "a value has at most 4 MiB",
    ("multiplex.test", "multiplex-2.5.4"): "rows made at random",
    ("stat.test", "stat-0.1a"): "what lies beneath the tables is not shown",
}


@dataclass
class _Score:
    passed: int = 0
    not_reproduced: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    differs: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def lines(self) -> str:
        told = [f"passed {self.passed}, not reproduced by SQLite itself {self.not_reproduced}"]
        told += [f"refused {count}: {why}" for why, count in self.refused.most_common()]
        told += [f"differs {count}: {why}" for why, count in self.differs.most_common()]
        return "\n".join(told)


def _why(table: dict[str, str], text: str) -> str:
    return next((why for pattern, why in table.items() if re.search(pattern, text)), "")


def _run(database: TenantDatabase, script: str, found: list[Block], score: _Score) -> None:
    both = Lockstep(database)
    for block in found:
        try:
            said = both.run(block.sql)
        except Denied as denied:
            why = _why(_REFUSALS, denied.message)
            if not why:
                score.failures.append(f"{script} {block.name} is refused without a reason: {denied.args}")
            elif block.expected is not None:
                score.refused[why] += 1
        except Endless:
            score.not_reproduced += 1
            break
        except Differs as difference:
            statement, *sides = difference.args
            known = _CASES.get((script, block.name), "")
            why = known or _why(_DIFFERENCES, statement)
            if not why:
                score.failures.append(f"{script} {block.name}: {statement}\n{sides[0]!r:.1500}\n{sides[1]!r:.1500}")
            score.differs[why] += 1
            # From here on the two sides may hold different things.
            if known or not why or not _tells(statement):
                break
        else:
            if block.expected is not None:
                if _as_published(block, said):
                    score.passed += 1
                else:
                    score.not_reproduced += 1
    both.close()


def _tells(statement: str) -> bool:
    return re.match(r"(?is)\s*(select|explain|pragma|with|values|vacuum)\b", statement) is not None


def _as_published(block: Block, said: Said) -> bool:
    assert block.expected is not None
    if not block.catches:
        return not said.error and said.words == block.expected
    match block.expected:
        case ["1", error]:
            return said.error == error
        case ["0", rows]:
            return not said.error and said.words == words(rows)
        case _:
            return False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "part" in metafunc.fixturenames:
        metafunc.parametrize("part", range(_PARTS if metafunc.config.getoption("--full") else 1))


@pytest.mark.parametrize("engine", ["native"], indirect=True)
def test_published_cases_pass_and_every_refusal_is_explained(
    product: Product, part: int, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    full = pytestconfig.getoption("--full")
    try:
        chosen = scripts()[part::_PARTS] if full else scripts()[::_SHARE_SHORT]
    except CasesMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    score, tenant = _Score(), None
    for number, script in enumerate(script for script in chosen if script.name not in _LEFT_OUT):
        found = blocks(script.read_text("utf-8", "replace"))
        if tenant is None or number % _SCRIPTS_PER_TENANT == 0:
            tenant = Tenant.made(product.url, product.token)
        database = TenantDatabase(tenant, f"DB{number}")
        _run(database, script.name, found, score)
        database.close()
    with capsys.disabled():
        print(f"\npart {part}: {score.lines()}")  # noqa: T201 -- the score is what is asked for
    assert score.failures == []
    assert score.passed >= (_PASSED_OF_PART_MIN if full else _PASSED_MIN)

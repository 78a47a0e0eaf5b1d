//! What is put where in SQLite's amalgamation. Each place must be found exactly once, else the build stops.

pub struct Insertion {
    pub why: &'static str,
    /// The text is put between `after` and `before`, which stand side by side in the source.
    pub after: &'static str,
    pub before: &'static str,
    pub text: &'static str,
}

/// Compile-time options. One connection is used by one thread at a time (our own lock), so SQLite needs none per connection.
pub const OPTIONS: &[(&str, Option<&str>)] = &[
    ("SQLITE_THREADSAFE", Some("2")),
    ("SQLITE_DEFAULT_MEMSTATUS", Some("0")),
    ("SQLITE_DEFAULT_MMAP_SIZE", Some("0")),
    ("SQLITE_MAX_MMAP_SIZE", Some("0")),
    ("SQLITE_DEFAULT_SYNCHRONOUS", Some("2")),
    ("SQLITE_DEFAULT_WAL_SYNCHRONOUS", Some("2")),
    ("SQLITE_DEFAULT_FOREIGN_KEYS", Some("1")),
    ("SQLITE_MAX_ATTACHED", Some("0")),
    ("SQLITE_TEMP_STORE", Some("0")),
    ("SQLITE_OMIT_LOAD_EXTENSION", None),
    ("SQLITE_OMIT_SHARED_CACHE", None),
    ("SQLITE_OMIT_AUTOINIT", None),
    ("SQLITE_OMIT_DESERIALIZE", None),
    ("SQLITE_OMIT_DEPRECATED", None),
    ("SQLITE_LIKE_DOESNT_MATCH_BLOBS", None),
    ("SQLITE_STRICT_SUBTYPE", Some("1")),
    ("SQLITE_MAX_VARIABLE_NUMBER", Some("32766")),
    ("SQLITE_ENABLE_FTS5", None),
    ("SQLITE_ENABLE_RTREE", None),
    ("SQLITE_ENABLE_MATH_FUNCTIONS", None),
    ("SQLITE_ENABLE_STAT4", None),
    ("HAVE_USLEEP", Some("1")),
    ("HAVE_FDATASYNC", Some("1")),
    ("HAVE_ISNAN", Some("1")),
];

pub const INSERTIONS: &[Insertion] = &[
    Insertion { why: "the counters' type", after: "", before: "struct sqlite3 {\n", text: "#include \"counters.h\"\n" },
    Insertion {
        why: "one set of counters per connection",
        after: "  Savepoint *pSavepoint;        /* List of active savepoints */\n",
        before: "",
        text: "  TovukCounters tovuk;\n",
    },
    Insertion {
        why: "the counting itself, inlined into the interpreter",
        after: "",
        before: "SQLITE_PRIVATE int sqlite3VdbeExec(\n  Vdbe *p                    /* The VDBE */\n){",
        text: "int tovukOver(TovukCounters*, int, sqlite3_uint64);\nint tovukHidden(sqlite3*, BtCursor*);\n\
static SQLITE_INLINE int tovukTake(TovukCounters *c, int meter, sqlite3_uint64 units){\n\
  if( units>c->limit[meter]-c->used[meter] ) return tovukOver(c, meter, units);\n\
  c->used[meter] += units;\n  return SQLITE_OK;\n}\n",
    },
    Insertion {
        why: "count(*) reads every row it counts, and not those of the catalogue that are hidden",
        after: "    rc = sqlite3BtreeCount(db, pCrsr, &nEntry);\n    if( rc ) goto abort_due_to_error;\n",
        before: "",
        text: "    if( !TOVUK_CATALOGUE(p->apCsr[pOp->p1]) ){ TOVUK_TAKE(TOVUK_READ_METER, nEntry) }\n    \
else if( db->tovuk.tenant ) nEntry -= db->tovuk.hidden_count;\n",
    },
    Insertion {
        why: "a seek that lands on an entry reads it",
        after: "seek_not_found:\n",
        before: "  assert( pOp->p2>0 );\n",
        text: "  if( res==0 && TOVUK_HIDDEN(pC) ) res = 1;\n  if( res==0 ){ TOVUK_READ(pC) }\n",
    },
    Insertion {
        why: "a seek that walks ahead reads what it passes",
        after: "    nStep--;\n    pC->cacheStatus = CACHE_STALE;\n    rc = sqlite3BtreeNext(pC->uc.pCursor, 0);\n",
        before: "    if( rc ){\n      if( rc==SQLITE_DONE ){\n        rc = SQLITE_OK;\n        goto seekscan_search_fail;",
        text: "    if( rc==SQLITE_OK ){ TOVUK_READ(pC) }\n",
    },
    Insertion {
        why: "a lookup by rowid that finds the row reads it",
        after: "  VdbeBranchTaken(res!=0,2);\n  pC->seekResult = res;\n",
        before: "  if( res!=0 ){\n    assert( rc==SQLITE_OK );\n    if( pOp->p2==0 ){\n",
        text: "  if( res==0 && rc==SQLITE_OK && TOVUK_HIDDEN(pC) && pOp->p2 ) goto jump_to_p2;\n  \
if( res==0 && rc==SQLITE_OK && !pC->isEphemeral ){ TOVUK_READ(pC) }\n",
    },
    Insertion {
        why: "a probe of an index in the file that finds the key reads its entry",
        after: "  alreadyExists = (pC->seekResult==0);\n",
        before: "",
        text: "  if( alreadyExists && !pC->isEphemeral ){ TOVUK_READ(pC) }\n",
    },
    Insertion {
        why: "a row put into a table, new or in the place of another, is written",
        after: "  assert( (pOp->p5 & OPFLAG_LASTROWID)==0 || (pOp->p5 & OPFLAG_NCHANGE)!=0 );\n",
        before: "",
        text: "  TOVUK_WRITE(pC)\n",
    },
    Insertion {
        why: "a row removed from a table is written; removals that are part of an update or a replacement are not counted again",
        after: "  /* Only flags that can be set are SAVEPOISTION and AUXDELETE */\n",
        before: "",
        text: "  if( opflags & OPFLAG_NCHANGE ){ TOVUK_WRITE(pC) }\n",
    },
    Insertion {
        why: "going to the last entry reads it",
        after: "  rc = sqlite3BtreeLast(pCrsr, &res);\n",
        before: "  pC->nullRow = (u8)res;\n",
        text: "  if( rc==SQLITE_OK && res==0 && pOp->opcode==OP_Last ){\n    \
while( TOVUK_HIDDEN(pC) ){\n      rc = sqlite3BtreePrevious(pCrsr, 0);\n      \
if( rc==SQLITE_DONE ){ rc = SQLITE_OK; res = 1; break; }\n      if( rc ) goto abort_due_to_error;\n    }\n    \
if( res==0 ){ TOVUK_READ(pC) }\n  }\n",
    },
    Insertion {
        why: "going to the first entry reads it",
        after: "  if( rc ) goto abort_due_to_error;\n",
        before: "  pC->nullRow = (u8)res;\n  if( pOp->p2>0 ){\n    VdbeBranchTaken(res!=0,2);\n",
        text: "  if( res==0 ){\n    while( TOVUK_HIDDEN(pC) ){\n      rc = sqlite3BtreeNext(pC->uc.pCursor, 0);\n      \
if( rc==SQLITE_DONE ){ rc = SQLITE_OK; res = 1; break; }\n      if( rc ) goto abort_due_to_error;\n    }\n    \
if( res==0 ){ TOVUK_READ(pC) }\n  }\n",
    },
    Insertion {
        why: "a step to an entry reads it, in a table, an index, a sorter or a temporary table",
        after: "    pC->nullRow = 0;\n    p->aCounter[pOp->p5]++;\n",
        before: "",
        text: "    if( TOVUK_HIDDEN(pC) ){\n      rc = pOp->opcode==OP_Prev ? sqlite3BtreePrevious(pC->uc.pCursor, 0) : sqlite3BtreeNext(pC->uc.pCursor, 0);\n      \
goto next_tail;\n    }\n    TOVUK_READ(pC)\n",
    },
    Insertion {
        why: "an entry put into an index is written",
        after: "  if( pOp->p5 & OPFLAG_NCHANGE ) p->nChange++;\n",
        before: "  assert( pC->eCurType==CURTYPE_BTREE );\n  assert( pC->isTable==0 );\n",
        text: "  TOVUK_WRITE(pC)\n",
    },
    Insertion {
        why: "emptying a table writes each of its rows",
        after: "  if( pOp->p3 ){\n    p->nChange += nChange;\n",
        before: "",
        text: "    if( rc==SQLITE_OK ){ TOVUK_TAKE(TOVUK_WRITE_METER, nChange) }\n",
    },
    Insertion {
        why: "the first row of a virtual table is read",
        after: "  res = pModule->xEof(pVCur);\n  pCur->nullRow = 0;\n",
        before: "",
        text: "  if( res==0 ){ TOVUK_TAKE(TOVUK_READ_METER, 1) }\n",
    },
    Insertion {
        why: "and each further one",
        after: "    /* If there is data, jump to P2 */\n",
        before: "",
        text: "    TOVUK_TAKE(TOVUK_READ_METER, 1)\n",
    },
    Insertion {
        why: "a row of a virtual table is written once, whatever it keeps in its shadow tables",
        after: "    db->vtabOnConflict = pOp->p5;\n",
        before: "    rc = pModule->xUpdate(pVtab, nArg, apArg, &rowid);\n",
        text: "    TOVUK_TAKE(TOVUK_WRITE_METER, 1)\n",
    },
    Insertion {
        why: "a virtual table's ON CONFLICT ROLLBACK ends its statement, not the transaction of others",
        after: "        p->errorAction = ((pOp->p5==OE_Replace) ? OE_Abort : pOp->p5);\n",
        before: "",
        text: "        if( p->errorAction==OE_Rollback && db->tovuk.enforced ) p->errorAction = OE_Abort;\n",
    },
    Insertion {
        why: "ON CONFLICT ROLLBACK and RAISE(ROLLBACK) end their statement, not the transaction of others",
        after: "  p->errorAction = (u8)pOp->p2;\n",
        before: "  assert( pOp->p5<=4 );\n",
        text: "  if( p->errorAction==OE_Rollback && db->tovuk.enforced ) p->errorAction = OE_Abort;\n",
    },
    Insertion {
        why: "an interruption undoes its statement, as a failed constraint does",
        after: "                    || mrc==SQLITE_FULL;\n",
        before: "",
        text: "      if( mrc==SQLITE_INTERRUPT && db->tovuk.enforced ) isSpecialError = 0;\n",
    },
    Insertion {
        why: "the file's cap is told from a full disk",
        after: "      if( pgno>pPager->mxPgno ){\n",
        before: "        rc = SQLITE_FULL;\n",
        text: "        tovuk_at_page_cap();\n",
    },
    Insertion {
        why: "every statement that writes can be undone alone; those that FTS5 runs inside of one are undone with it",
        after: "  p->usesStmtJournal = (u8)(pParse->isMultiWrite && pParse->mayAbort);\n",
        before: "",
        text: "  if( db->tovuk.enforced && !p->readOnly && db->nVdbeExec==0 ) p->usesStmtJournal = 1;\n",
    },
    Insertion {
        why: "nothing can be made under, or renamed to, a hidden name; ALTER TABLE reads the text of what is hidden too",
        after: "  sqlite3 *db = pParse->db;\n",
        before: "  if( sqlite3WritableSchema(db)\n   || db->init.imposterTable\n",
        text: "  if( !db->init.busy && !IN_SPECIAL_PARSE && tovukHiddenName(db, zName) ){\n    \
sqlite3ErrorMsg(pParse, \"object name reserved for internal use: %s\", zName);\n    return SQLITE_ERROR;\n  }\n",
    },
    Insertion {
        why: "declares what the insertion above uses",
        after: "",
        before: "SQLITE_PRIVATE int sqlite3CheckObjectName(\n  Parse *pParse,            /* Parsing context */\n",
        text: "int tovukHiddenName(sqlite3*, const char*);\n",
    },
    Insertion {
        why: "nothing of a tenant's is made in the temporary schema, whose name the authorizer is not told",
        after: "      sqlite3ErrorMsg(pParse, \"unknown database %T\", pName1);\n      return -1;\n    }\n",
        before: "  }else{\n    assert( db->init.iDb==0 || db->init.busy || IN_SPECIAL_PARSE\n",
        text: "    if( iDb==1 && db->tovuk.tenant ){\n      \
sqlite3ErrorMsg(pParse, \"temporary objects are not allowed: nothing outlives a request but the database\");\n      \
pParse->rc = SQLITE_AUTH;\n      return -1;\n    }\n",
    },
    Insertion {
        why: "PRAGMA table_list leaves hidden tables out",
        after: "        if( zRight && sqlite3_stricmp(zRight, pTab->zName)!=0 ) continue;\n",
        before: "        if( IsView(pTab) ){\n",
        text: "        if( tovukHiddenName(db, pTab->zName) ) continue;\n",
    },
    Insertion {
        why: "EXPLAIN QUERY PLAN names the table of a step by its root page, whatever its alias",
        after: "pLevel->pWLoop->rRun\n      );\n",
        before: "      sqlite3WhereAddExplainText(",
        text: "      sqlite3VdbeChangeP3(v, ret, (int)pTabList->a[pLevel->iFrom].pSTab->tnum);\n",
    },
];

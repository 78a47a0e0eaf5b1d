/* Row counters of one connection. Included into SQLite's amalgamation before `struct sqlite3`, which holds one. */
#define TOVUK_READ_METER 0
#define TOVUK_WRITE_METER 1
#define TOVUK_HIDDEN_ROWS 16

typedef struct TovukCounters TovukCounters;
struct TovukCounters {
  sqlite3_uint64 used[2];  /* units taken since the run began: rows read, rows written */
  sqlite3_uint64 limit[2]; /* never above these */
  int (*over)(void*, int meter, sqlite3_uint64 units); /* asked at a limit: 0 once it was raised far enough */
  void *argument;
  void *statement;         /* the one that is counted */
  int enforced;            /* a failure or interruption undoes its statement, never the transaction around it */
  int tenant;              /* a tenant's text is running: hidden names and catalogue rows do not exist for it */
  int hidden_count;
  sqlite3_int64 hidden[TOVUK_HIDDEN_ROWS]; /* rowids in sqlite_schema of what is hidden */
};

/* True if the cursor stands on a row of the file's catalogue, which is not a row of the tenant's. */
#define TOVUK_CATALOGUE(C) ((C)->eCurType==CURTYPE_BTREE && !(C)->isEphemeral && (C)->pgnoRoot==1 && (C)->iDb==0)

/* True in the statement the caller runs: not in those that SQLite runs for it (FTS5's shadow tables, blobs, the catalogue). */
#define TOVUK_OUTER ((void*)p==db->tovuk.statement)

/* Takes N units before they are used. */
#define TOVUK_TAKE(METER, N) \
  if( TOVUK_OUTER ){ \
    rc = tovukTake(&db->tovuk, METER, (sqlite3_uint64)(N)); \
    if( rc ) goto abort_due_to_error; \
  }
#define TOVUK_READ(C) if( !TOVUK_CATALOGUE(C) ){ TOVUK_TAKE(TOVUK_READ_METER, 1) }
#define TOVUK_WRITE(C) if( !(C)->isEphemeral && !TOVUK_CATALOGUE(C) ){ TOVUK_TAKE(TOVUK_WRITE_METER, 1) }

/* True if the reading cursor C stands on a catalogue row that the tenant does not see. */
#define TOVUK_HIDDEN(C) \
  (db->tovuk.tenant && db->tovuk.hidden_count && TOVUK_OUTER && TOVUK_CATALOGUE(C) && tovukHidden(db, (C)->uc.pCursor))

static int tovukTake(TovukCounters*, int, sqlite3_uint64);

/* Told by what embeds SQLite: this thread's statement needs more pages than the file may have. */
void tovuk_at_page_cap(void);

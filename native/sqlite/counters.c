/* Included at the end of SQLite's amalgamation, where its structures are known. */

int tovukOver(TovukCounters *c, int meter, sqlite3_uint64 units){
  int rc = c->over ? c->over(c->argument, meter, units) : 1;
  if( rc || units>c->limit[meter]-c->used[meter] ){
    /* Rows that were read were read, as far as the budget went. */
    if( meter==TOVUK_READ_METER ) c->used[meter] = c->limit[meter];
    return SQLITE_INTERRUPT;
  }
  c->used[meter] += units;
  return SQLITE_OK;
}

int tovukHiddenName(sqlite3 *db, const char *name){
  return db->tovuk.tenant && name && sqlite3_strnicmp(name, TOVUK_HIDDEN_PREFIX, sizeof(TOVUK_HIDDEN_PREFIX)-1)==0;
}

/* What changes the catalogue opens it for writing and sees all of it. */
int tovukHidden(sqlite3 *db, BtCursor *cursor){
  sqlite3_int64 rowid;
  int i;
  if( cursor->curFlags & BTCF_WriteFlag ) return 0;
  if( !sqlite3BtreeCursorIsValidNN(cursor) ) return 0;
  rowid = sqlite3BtreeIntegerKey(cursor);
  for(i=0; i<db->tovuk.hidden_count; i++){
    if( db->tovuk.hidden[i]==rowid ) return 1;
  }
  return 0;
}

TovukCounters *tovuk_counters(sqlite3 *db){
  return &db->tovuk;
}

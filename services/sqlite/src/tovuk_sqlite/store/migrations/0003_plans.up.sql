-- How long an account's history is kept depends on its plan.
CREATE TABLE account_plan (
    account_id TEXT PRIMARY KEY,
    plan TEXT NOT NULL
) STRICT, WITHOUT ROWID;

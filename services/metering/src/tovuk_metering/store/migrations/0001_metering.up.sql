CREATE TABLE accounts (
  account_id TEXT PRIMARY KEY,
  plan TEXT NOT NULL,
  revision BIGINT NOT NULL
);

CREATE TABLE caps (
  account_id TEXT NOT NULL,
  meter TEXT NOT NULL,
  period TEXT NOT NULL,
  cap_value BIGINT NOT NULL,
  hard_stop BIGINT NOT NULL,
  notify_at_percent BIGINT NOT NULL,
  updated_at_ms BIGINT NOT NULL,
  PRIMARY KEY (account_id, meter, period)
);

-- window_start is YYYY-MM-DD for a day and YYYY-MM for a month.
CREATE TABLE windows (
  account_id TEXT NOT NULL,
  meter TEXT NOT NULL,
  window_start TEXT NOT NULL,
  settled BIGINT NOT NULL,
  burnt BIGINT NOT NULL,
  PRIMARY KEY (account_id, window_start, meter)
);

CREATE TABLE holders (
  store TEXT NOT NULL,
  epoch BIGINT NOT NULL,
  service TEXT NOT NULL,
  state TEXT NOT NULL,
  changed_at_ms BIGINT NOT NULL,
  PRIMARY KEY (store, epoch)
);

CREATE INDEX holders_by_state ON holders (state, service);

-- Open leases only: a closed lease has no row.
CREATE TABLE leases (
  lease_id BIGINT PRIMARY KEY,
  store TEXT NOT NULL,
  epoch BIGINT NOT NULL,
  account_id TEXT NOT NULL,
  meter TEXT NOT NULL,
  day TEXT NOT NULL,
  version BIGINT NOT NULL,
  granted BIGINT NOT NULL,
  applied BIGINT NOT NULL,
  unlimited BIGINT NOT NULL,
  seen BIGINT NOT NULL,
  offered_at_ms BIGINT NOT NULL,
  recalled_at_ms BIGINT NOT NULL
);

CREATE UNIQUE INDEX leases_by_account ON leases (account_id, meter, day, store, epoch);

CREATE INDEX leases_by_holder ON leases (store, epoch);

CREATE TABLE lease_lines (
  lease_id BIGINT NOT NULL,
  service_id TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  units BIGINT NOT NULL,
  PRIMARY KEY (lease_id, service_id, resource_id)
);

CREATE TABLE ledger (
  account_id TEXT NOT NULL,
  day TEXT NOT NULL,
  meter TEXT NOT NULL,
  service_id TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  units BIGINT NOT NULL,
  PRIMARY KEY (account_id, day, meter, service_id, resource_id)
);

-- believed is an upper bound of the store's allowance; applied_seq the newest report whose lines are in level_lines.
CREATE TABLE levels (
  account_id TEXT NOT NULL,
  meter TEXT NOT NULL,
  store TEXT NOT NULL,
  version BIGINT NOT NULL,
  believed BIGINT NOT NULL,
  bytes BIGINT NOT NULL,
  seq BIGINT NOT NULL,
  applied_seq BIGINT NOT NULL,
  recalled_at_ms BIGINT NOT NULL,
  trimmed_at_ms BIGINT NOT NULL,
  PRIMARY KEY (account_id, meter, store)
);

CREATE INDEX levels_by_recall ON levels (recalled_at_ms);

CREATE TABLE level_lines (
  account_id TEXT NOT NULL,
  meter TEXT NOT NULL,
  store TEXT NOT NULL,
  service_id TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  bytes BIGINT NOT NULL,
  since_ms BIGINT NOT NULL,
  PRIMARY KEY (account_id, meter, store, service_id, resource_id)
);

-- byte_ms is a decimal integer as text: a day of 100 GB does not fit 64 bits.
CREATE TABLE byte_time (
  account_id TEXT NOT NULL,
  day TEXT NOT NULL,
  meter TEXT NOT NULL,
  service_id TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  byte_ms TEXT NOT NULL,
  PRIMARY KEY (account_id, day, meter, service_id, resource_id)
);

CREATE TABLE notices (
  notice_id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  details_json TEXT NOT NULL,
  at_ms BIGINT NOT NULL,
  delivered BIGINT NOT NULL
);

CREATE INDEX notices_by_delivery ON notices (delivered, at_ms);

-- One row: the process that serves. An older process finds another number here and stops.
CREATE TABLE serving (
  only_row BIGINT PRIMARY KEY,
  incarnation BIGINT NOT NULL
);

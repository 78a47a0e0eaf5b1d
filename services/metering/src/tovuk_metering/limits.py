"""Bounds of the service, unit in the name. Source: metering.md, decisions.md."""

#: For how long after sending a heartbeat a holder may charge.
HOLDER_VALID_MS = 3_000
#: A holder is given up so long after its last heartbeat; longer than it may charge, so that it has surely stopped.
HOLDER_GIVEN_UP_MS = 4_500
#: A heartbeat comes every second; one later than this is overdue.
BEAT_OVERDUE_MS = 1_500
#: A lease its holder never showed to know is taken back after this; longer than any call takes.
LEASE_UNSEEN_MS = 10_000
#: A share of the free units is granted: free / (this × live holders), so that shares shrink to one.
SHARES_PER_HOLDER = 4
#: The shortest and the longest pause an asker is told.
WAIT_MIN_MS = 20
WAIT_MAX_MS = 200
#: How long setting a cap waits for the holders, and how often it looks.
CAP_SETTLES_MS = 5_000
CAP_LOOKS_MS = 20
#: Usage unreported for longer than this makes figures `delayed`.
BEHIND_MS = 2_000
#: The percentage of a plan's limit at which its owner is told.
PLAN_NOTIFY_PERCENT = 80
#: Reports applied in one transaction.
REPORTS_BATCH = 128
#: Days after which leases, notices and dead holders of the past are removed.
KEEP_DAYS = 40
#: Days for which the ledger's lines are kept; windows keep their sums as long.
LEDGER_DAYS = 400

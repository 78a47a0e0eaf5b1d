// Not built: pins the module whose test data are SQLite's own published cases.
module tovuk-published-cases

go 1.19

require modernc.org/sqlite v1.61.1

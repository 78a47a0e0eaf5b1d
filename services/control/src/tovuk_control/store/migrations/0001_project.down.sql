DROP TABLE activity;

DROP TABLE tombstones;

DROP TABLE resources;

DROP TABLE tokens;

DROP TABLE services;

DROP TABLE plan_outbox;

DROP TABLE accounts;

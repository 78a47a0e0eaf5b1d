DROP TABLE allowance;
DROP TABLE used;
DROP TABLE epoch;
DROP TABLE tombstone;
DROP TABLE mark;
DROP TABLE database;
DROP TABLE meta;

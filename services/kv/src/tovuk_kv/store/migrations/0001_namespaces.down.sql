DROP TABLE level_line;
DROP TABLE level;
DROP TABLE used;
DROP TABLE epoch;
DROP TABLE entry;
DROP TABLE tombstone;
DROP TABLE namespace;
DROP TABLE meta;

DROP TABLE restore;
DROP TABLE backup;

ALTER TABLE database DROP COLUMN with_archive;
DROP TABLE generation_end;

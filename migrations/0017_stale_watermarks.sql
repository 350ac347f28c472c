-- Whether something was about to be taken after the watermarks were read.
SET @ddl = IF(
  EXISTS (SELECT 1 FROM information_schema.COLUMNS
           WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'quota_violations' AND COLUMN_NAME = 'is_stale'),
  'DO 0',
  'ALTER TABLE quota_violations ADD COLUMN is_stale BOOLEAN NOT NULL DEFAULT FALSE');
PREPARE statement FROM @ddl;
EXECUTE statement;
DEALLOCATE PREPARE statement;

-- The plan an update is changing to, while it does: so that the same request again is known again.
SET @ddl = IF(
  EXISTS (SELECT 1 FROM information_schema.COLUMNS
           WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'service_instances' AND COLUMN_NAME = 'next_plan_guid'),
  'DO 0',
  'ALTER TABLE service_instances ADD COLUMN next_plan_guid VARCHAR(255) CHARACTER SET utf8mb4 NULL');
PREPARE statement FROM @ddl;
EXECUTE statement;
DEALLOCATE PREPARE statement;

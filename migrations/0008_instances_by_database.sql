-- The enforcer looks at a few databases by name between two scans of all.
SET @ddl = IF(
  EXISTS (SELECT 1 FROM information_schema.STATISTICS
           WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'service_instances' AND INDEX_NAME = 'index_service_instances_on_db_name'),
  'DO 0',
  'ALTER TABLE service_instances ADD KEY index_service_instances_on_db_name (db_name)');
PREPARE statement FROM @ddl;
EXECUTE statement;
DEALLOCATE PREPARE statement;
